#!/usr/bin/env bash
# Debian's Exim beside Postfix: the packages conflict, so this one is unpacked into a directory and not installed.
# Nothing is started. As root: installs the libraries that it needs, and adds the system user it was built for.
#
#     tests/mta/unpack_exim.sh            prints where the program is; does nothing when it is there already
set -euo pipefail

DIRECTORY=${REPUTON_EXIM:-/opt/reputon-exim}
PROGRAM=$DIRECTORY/usr/sbin/exim4
PACKAGE=exim4-daemon-light
EXIM_USER=Debian-exim

works() { [[ -x $PROGRAM ]] && "$PROGRAM" -C /dev/null -bV >/dev/null 2>&1; }

if ! works; then
    if ((EUID)); then
        echo "$0: only root can set Exim up" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # What it depends on, without Exim's other packages and debconf: libraries, which conflict with nothing.
    apt-cache show --no-all-versions "$PACKAGE" >/dev/null 2>&1 || apt-get update -q >&2
    mapfile -t libraries < <(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces "$PACKAGE" | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
    apt-get install -y -q --no-install-recommends --no-upgrade "${libraries[@]}" >&2

    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$PACKAGE" >&2)
    mkdir -p "$DIRECTORY"
    dpkg -x "$work/$PACKAGE"_*.deb "$DIRECTORY"
    # It changes to this user by name, whatever its configuration says.
    id "$EXIM_USER" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin "$EXIM_USER"
    works || { echo "$0: $PROGRAM does not run here" >&2; exit 1; }
fi
echo "$PROGRAM"
