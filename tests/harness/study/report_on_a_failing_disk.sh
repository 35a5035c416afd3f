# Write a report to a disk that is full, then read-only, then neither. Print the exit codes and the files.
# Arguments: the disk's folder, and the report's command without the output folder.
disk=$1; shift
mkdir "$disk" && mount -t tmpfs -o size=64k tmpfs "$disk" || exit 99
"$@" "$disk/report" 2>"$disk.full" >/dev/null; echo $?
mount -o remount,size=64m,ro "$disk"
"$@" "$disk/report" 2>"$disk.read-only" >/dev/null; echo $?
mount -o remount,rw "$disk"
"$@" "$disk/report" >/dev/null; echo $?
ls -A "$disk/report"
