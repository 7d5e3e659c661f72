#!/bin/sh
# Makes a Debian package of what make install has put below STAGE, with dpkg-deb
# alone:
#   scripts/deb.sh STAGE VERSION ARCH OUT
# DEBCOMPRESSION=none is for who makes one to try it at once.
set -eu
stage=$1 version=$2 arch=$3 out=$4
here=$(dirname "$0")/../deploy/debian
umask 022

# v1.2.3-4-gabcdef is 1.2.3+4.gabcdef; what has no number comes before all that do.
version=$(printf '%s' "${version#v}" | sed -E 's/-([0-9]+)-g/+\1.g/; s/-/+/g; s/[^A-Za-z0-9.+~]/./g')
case $version in [0-9]*.[0-9]*) ;; *) version="0~$version" ;; esac
maintainer=${DEBFULLNAME:-masterd}" <${DEBEMAIL:-masterd@localhost}>"
date=$(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")

doc=$stage/usr/share/doc/masterd
install -d "$stage/DEBIAN" "$doc" "$stage/etc/masterd" "$stage/usr/share/lintian/overrides"
install -D -m 0644 "$here/needrestart.conf" "$stage/etc/needrestart/conf.d/masterd.conf"
install -m 0644 "$here/copyright" "$doc/copyright"
install -m 0644 "$here/lintian-overrides" "$stage/usr/share/lintian/overrides/masterd"
printf 'masterd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md in the source.\n\n -- %s  %s\n' "$version" "$maintainer" "$date" |
	gzip -9n >"$doc/changelog.gz"
find "$stage/usr/share/man" -type f ! -name '*.gz' -exec gzip -9n {} +

install -m 0644 "$here/conffiles" "$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 0755 "$here/$script" "$stage/DEBIAN/$script"; done
size=$(du -sk --exclude=DEBIAN "$stage" | cut -f1)
sed "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@MAINTAINER@|$maintainer|; s|@SIZE@|$size|" "$here/control.in" >"$stage/DEBIAN/control"
(cd "$stage" && find usr etc -type f -exec md5sum {} + | LC_ALL=C sort -k2) >"$stage/DEBIAN/md5sums"
chmod 0644 "$stage/DEBIAN/control" "$stage/DEBIAN/md5sums"

install -d "$out"
find "$stage" -newermt "$date" -exec touch -h -d "$date" {} + # the same input makes the same file
dpkg-deb --root-owner-group -Z"${DEBCOMPRESSION:-xz}" --build "$stage" "$out/masterd_${version}_$arch.deb"
