#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Puts together what a virtual machine is started with and prints two lines:
# the kernel image and the initial file system (newc archive), which holds
# guest-init, the programs, the modules in load order and the plan. A plan that
# runs vaccel-survive gets it; one that runs vaccel-interop gets that, and the
# shared libraries that it needs.
#
# What a plan says in "# scenario:" lines is one JSON document, for the host: it is
# put beside the initial file system, as NAME.scenario.
#
#   image.sh packaged|debug PLAN      PLAN: a name in tools/dev/plan
#   image.sh outer                    the outer machine's kernel and modules,
#                                     for hosts whose KVM boots no kernel, and
#                                     a list of what Vulkan in software needs;
#                                     prints its folder

. "$(dirname "$0")/lib.sh"

kernel=$("$REPO/tools/dev/kernel-packages.sh")
release=$(cat "$kernel/RELEASE")
modules=$kernel/root/usr/lib/modules/$release
vmlinuz=$modules/vmlinuz

# with_dependencies MODULE...: paths below $modules in load order.
with_dependencies() {
    if [ ! -s "$modules/modules.dep" ]; then
        step module-dependencies "$REPO/tools/dev/in-root" depmod -b "$kernel/root/usr" "$release"
    fi
    load_order "$@"
}

# modules.dep names all of a module's dependencies, the last to be loaded
# first.
load_order() {
    awk -v wanted="$*" '
        function base(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
        { sub(/:/, "", $1); b = base($1); path[b] = $1; $1 = ""; deps[b] = $0 }
        END {
            n = split(wanted, names, " ")
            for (i = 1; i <= n; i++) {
                name = names[i]; gsub(/-/, "_", name)
                if (!(name in path)) continue
                m = split(deps[name], list, " ")
                for (j = m; j >= 1; j--) if (!(list[j] in seen)) { seen[list[j]] = 1; print list[j] }
                if (!(path[name] in seen)) { seen[path[name]] = 1; print path[name] }
            }
        }' "$modules/modules.dep"
}

# unpack_module PATH FOLDER: decompressed there; prints its file name.
unpack_module() {
    local name=${1##*/}
    name=${name%.xz}
    name=${name%.zst}
    case $1 in
    *.xz) xz -dc "$modules/$1" >"$2/$name" ;;
    *.zst) zstd -qdc "$modules/$1" >"$2/$name" ;;
    *) cp "$modules/$1" "$2/$name" ;;
    esac
    printf '%s\n' "$name"
}

# with_libraries PROGRAM: into the image, with what the build root's loader finds
# for it, under the same names.
with_libraries() {
    local root list path
    root=$("$REPO/tools/dev/root.sh")
    list=$("$REPO/tools/dev/in-root" ldd "$1")
    ! grep 'not found' <<<"$list" >&2 || die "$1 needs libraries that the build root lacks"
    cp "$1" "$tree/bin/"
    for path in $(grep -o '/[^ ]*' <<<"$list"); do
        mkdir -p "$tree${path%/*}"
        cp -L "$root$path" "$tree$path"
    done
}

make_outer() {
    local path
    [ -e "$outer/.complete" ] && return 0
    rm -rf "$outer"
    mkdir -p "$outer"
    cp "$vmlinuz" "$outer/vmlinuz"
    for path in $(with_dependencies kvm-amd); do
        unpack_module "$path" "$outer" >>"$outer/modules.load"
    done
    grep -qx 'kvm-amd.ko' "$outer/modules.load"
    touch "$outer/.complete"
}

# list_vulkan: what shaders need in the outer machine, a line for each file: its
# path there, a tabulator, its path here.
list_vulkan() {
    local root folder=/usr/lib/x86_64-linux-gnu driver=/usr/share/vulkan/icd.d/lvp_icd.json path
    root=$("$REPO/tools/dev/root.sh")
    for path in "$driver" "$folder/libvulkan.so.1" "$folder/libvulkan_lvp.so" \
        $("$REPO/tools/dev/in-root" ldd "$folder/libvulkan_lvp.so" "$folder/libvulkan.so.1" |
            grep -o '/[^ :]* ' | sort -u); do
        [ -r "$root$path" ] || die "the build root lacks $path"
        printf '%s\t%s\n' "$path" "$(readlink -f "$root$path")"
    done >"$outer/vulkan.list.new.$$"
    mv "$outer/vulkan.list.new.$$" "$outer/vulkan.list"
}

if [ "${1:-}" = outer ]; then
    outer=$CACHE/outer-$release
    [ -e "$outer/.complete" ] || locked outer make_outer
    list_vulkan
    ln -sfn "$(basename "$outer")" "$CACHE/outer"
    printf '%s\n' "$outer"
    exit
fi

which=${1:?packaged or debug} plan=${2:?plan}
template=$REPO/tools/dev/plan/$plan.plan
[ -r "$template" ] || die "no such plan: tools/dev/plan/$plan.plan"
tree=$OUT/image/$which-$plan
image=$tree.cpio
binaries=$OUT/bin
rm -rf "$tree"
mkdir -p "$tree"/{bin,etc/vaccel,modules,dev,proc,sys,tmp,run}

case $which in
packaged)
    ko=$OUT/module/vaccel.ko
    needs=$("$REPO/tools/dev/in-root" modinfo -F depends "$ko" | tr ',' ' ')
    # vgem: buffers of another driver, for the import tests. A plan may want more: "# modules: NAME...".
    more=$(sed -n 's/^# modules://p' "$template")
    for path in $(with_dependencies $needs vgem $more); do
        unpack_module "$path" "$tree/modules" >>"$tree/modules.load"
    done
    boot=$vmlinuz
    ;;
debug)
    build=$("$REPO/tools/dev/debug-kernel.sh" kernel)
    ko=$build/drivers/accel/vaccel/vaccel.ko
    boot=$build/arch/x86/boot/bzImage
    ;;
*) die "unknown kernel $which: packaged or debug" ;;
esac
[ -e "$ko" ] || die "the driver is not built: $ko"
# Symbols stay, debug information is of no use in the guest.
"$REPO/tools/dev/in-root" objcopy --strip-debug "$ko" "$tree/modules/vaccel.ko"
echo vaccel.ko >>"$tree/modules.load"
mv "$tree/modules.load" "$tree/modules/modules.load"
cp "$binaries/guest-init" "$tree/init"
for name in vaccel-smoke vaccel-selftests; do
    if [ -e "$binaries/$name" ]; then cp "$binaries/$name" "$tree/bin/"; fi
done
if grep -q ' /bin/vaccel-survive' "$template"; then cp "$binaries/vaccel-survive" "$tree/bin/"; fi
if grep -q ' /bin/vaccel-interop' "$template"; then with_libraries "$binaries/vaccel-interop"; fi
soak=${SOAK_MINUTES:-30}
while IFS= read -r line; do
    case $line in
    @modules*)
        # What follows are parameters of the driver, the last module of all.
        sed "s,^,module /modules/,; \$s,\$,${line#@modules}," "$tree/modules/modules.load"
        ;;
    *)
        line=${line//@SOAK_LIMIT/$((60 * soak + 600))}
        printf '%s\n' "${line//@SOAK_SECONDS/$((60 * soak))}"
        ;;
    esac
done <"$template" >"$tree/etc/vaccel/plan"
rm -f "$tree.scenario"
if grep -q '^# scenario:' "$template"; then
    sed -n 's/^# scenario://p' "$template" >"$tree.scenario"
fi
(cd "$tree" && find . -mindepth 1 | LC_ALL=C sort |
    "$REPO/tools/dev/in-root" cpio --quiet -o -H newc -R 0:0) >"$image.new"
mv "$image.new" "$image"
printf '%s\n%s\n' "$boot" "$image"
