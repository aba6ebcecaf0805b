#!/bin/bash
# Builds the Debian packages out of a copy of the tree and has them looked at.
#
#   deb.sh TREE ARCHITECTURE [VERSION]
#
# debian/ has to lie at the top of what is built, and here it does not: the copy, of what git knows
# and would know, gets it. Of the same commit come the same bytes: every time in them is the commit's.
set -eu -o pipefail
tree=$1 arch=$2 version=${3:-}
out=$tree/build/deb
stage=$out/source-$arch
log=$out/build-$arch.log

die() {
    printf 'deb: %s\n' "$*" >&2
    exit 1
}

mkdir -p "$out"
rm -rf "$stage"
mkdir "$stage"
(cd "$tree" && git ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read -T - -c 2>/dev/null) | tar -x -C "$stage"
mv "$stage/packaging/debian" "$stage/debian"
SOURCE_DATE_EPOCH=$(git -C "$tree" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
now=$(dpkg-parsechangelog -l "$stage/debian/changelog" -S Version)
if [ -n "$version" ] && [ "$version" != "$now" ]; then
    {
        printf 'onebit (%s) UNRELEASED; urgency=medium\n\n  * Built from the tree.\n\n -- %s  %s\n\n' "$version" \
            "$(dpkg-parsechangelog -l "$stage/debian/changelog" -S Maintainer)" "$(date -Ru -d "@$SOURCE_DATE_EPOCH")"
        cat "$stage/debian/changelog"
    } >"$stage/changelog.new"
    mv "$stage/changelog.new" "$stage/debian/changelog"
    now=$version
fi

find "$stage" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} + # installed files keep their times

find "$out" -maxdepth 1 -name "*_${now}_$arch.*" -delete
(cd "$stage" && DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" DEB_BUILD_PROFILES=nocheck \
    dpkg-buildpackage --build=binary --host-arch "$arch" --no-sign) >"$log" 2>&1 || {
    tail -40 "$log" >&2
    die "the packages could not be built: $log"
}
changes=$out/onebit_${now}_$arch.changes
lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$changes" || die "lintian is not content with $changes"
blhc --bindnow --ignore-flag=-fPIE "$log" >"$out/blhc-$arch.log" || {
    tail -20 "$out/blhc-$arch.log" >&2
    die "not everything was built with hardening: $log"
}
rm -rf "$stage"
sed -n 's/^ [0-9a-f]\{64\} [0-9]* \(.*\.deb\)$/build\/deb\/\1/p' "$changes"
