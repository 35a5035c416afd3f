# Run two drivers in succession with $DISK as a separate disk, which has a fault only during the first run.
# Arguments: the driver's command without its last argument, the options. $BEGIN causes the fault, $MEND ends it.
mkdir "$DISK" && mount -t tmpfs -o size=6m tmpfs "$DISK" && cp "$STORE" "$DISK/mlflow.db" || exit 99
eval "$BEGIN"
"$@" "$FIRST" >"$DISK.first" 2>&1; echo $? >"$DISK.code"
eval "$MEND"
"$@" "$SECOND" 2>&1; code=$?
cp "$DISK/mlflow.db" "$DISK.db" && cp -r "$DISK/mlartifacts" "$DISK.files"
exit $code
