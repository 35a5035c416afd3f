# Two drivers, one behind the other, with $DISK a disk of its own: in trouble under the first one, then mended.
# $1... the driver and its arguments but for the fault
mkdir "$DISK" && mount -t tmpfs -o size=6m tmpfs "$DISK" && cp "$STORE" "$DISK/mlflow.db" || exit 99
eval "$BEGIN"
"$@" "$FIRST" >"$DISK.first" 2>&1; echo $? >"$DISK.code"
eval "$MEND"
"$@" "$SECOND" 2>&1; code=$?
cp "$DISK/mlflow.db" "$DISK.db" && cp -r "$DISK/mlartifacts" "$DISK.files"
exit $code
