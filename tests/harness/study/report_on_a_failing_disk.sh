# A report into a folder of a disk that is full, then read-only, then neither; prints exit codes and files.
# $1 the disk's folder, $2... the report's command before the folder's name
disk=$1; shift
mkdir "$disk" && mount -t tmpfs -o size=64k tmpfs "$disk" || exit 99
"$@" "$disk/report" 2>"$disk.full" >/dev/null; echo $?
mount -o remount,size=64m,ro "$disk"
"$@" "$disk/report" 2>"$disk.read-only" >/dev/null; echo $?
mount -o remount,rw "$disk"
"$@" "$disk/report" >/dev/null; echo $?
ls -A "$disk/report"
