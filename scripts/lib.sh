# Sourced by the scripts beside it: makes sure that this machine and `.venv` have what they need.
#
# Everything is found out by trying it (a command, a header, a module), not by asking a package database, so the same
# lines serve a distribution that is not Debian: there the missing things are named and left to its owner.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv

say() { printf 'synofs: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; }

# Prints a suitable Python; nothing if there is none. The distribution's own first, whatever else PATH would choose: it is
# built with profile-guided optimization, and a Python compiled without it (pyenv's default) took twice the time for the
# same loop.
find_python() {
    local name
    for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$name" && suits "$name"; then
            command -v "$name"
            return
        fi
    done
}

# Prints the name of a Debian package with a suitable Python for a machine that has none.
python_package() {
    local name
    if dpkg --compare-versions "$(apt-cache policy python3 | awk '/Candidate:/ {print $2}')" ge 3.11 2>/dev/null; then
        echo python3
        return
    fi
    for name in python3.14 python3.13 python3.12 python3.11; do
        # By its whole name: elsewhere apt takes a name with a dot for a pattern.
        if apt-cache pkgnames "$name" | grep -xF "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
}

# Prints the Debian packages that are missing for `$1` = demo, test or check, with the Python `$2`.
missing_packages() {
    local purpose=$1 python=$2 flavour pair
    have fusermount3 || echo fuse3
    have pkg-config || echo pkg-config
    { have pkg-config && pkg-config --exists 'fuse3 >= 3.2'; } || echo libfuse3-dev
    have gcc || have cc || echo gcc
    # Headers and venv belong to the interpreter that was chosen: python3-dev, or python3.11-dev beside an older one.
    flavour=$(basename "$python")
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$flavour-venv"
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo "$flavour-dev"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -d /etc/pki ] || echo ca-certificates
    [ "$purpose" = demo ] && return
    for pair in fio:fio rsync:rsync curl:curl getfattr:attr git:git strace:strace openssl:openssl sqlite3:sqlite3 unzip:unzip \
        stress-ng:stress-ng faketime:faketime mkfs.ext4:e2fsprogs ip:iproute2 man:man-db gnome-keyring-daemon:gnome-keyring dbus-run-session:dbus dbus-send:dbus; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
    # tests/desktop work with file managers on a screen that nobody sees.
    for pair in Xvfb:xvfb xdotool:xdotool openbox:openbox import:imagemagick thunar:thunar pcmanfm:pcmanfm nautilus:nautilus; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
    compgen -G '/usr/lib/*/tumbler-1/tumblerd' >/dev/null || echo tumbler
    [ -e /usr/share/icons/Adwaita ] || echo adwaita-icon-theme
    # tests/systemd boot a systemd in a container, which root alone can.
    [ "$(id -u)" = 0 ] || return 0
    for pair in debootstrap:debootstrap systemd-nspawn:systemd-container systemd-analyze:systemd; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
}

# Runs a command without its chatter; if it fails, shows all that it said.
quietly() {
    local said
    said=$(mktemp)
    if "$@" >"$said" 2>&1; then
        rm -f "$said"
    else
        cat "$said" >&2
        rm -f "$said"
        return 1
    fi
}

# As root, or through sudo. `$1` is what to tell somebody who can do neither.
need_root() {
    [ "$(id -u)" = 0 ] || have sudo || fail "this needs root, and there is no sudo. As root, run: $1"
}

apt() {
    local command=(env DEBIAN_FRONTEND=noninteractive apt-get -q "$@")
    [ "$(id -u)" = 0 ] || command=(sudo "${command[@]}")
    quietly "${command[@]}" || fail "apt-get $1 failed, see above"
}

APT_IS_FRESH=
apt_update() {
    [ -z "$APT_IS_FRESH" ] || return 0
    need_root "apt-get update"
    say "fetching the lists of system packages"
    apt update
    APT_IS_FRESH=yes
}

apt_install() {
    have apt-get || fail "missing on this machine, and it has no apt-get to install it: $* (names as in Debian)"
    need_root "apt-get install $*"
    apt_update
    say "installing system packages: $*"
    apt install -y --no-install-recommends "$@"
}

# setup demo|test|check: afterwards `.venv/bin/synofs` exists with the extra of that name, and /dev/fuse can be used.
setup() {
    local purpose=$1 python packages
    python=$(find_python)
    if [ -z "$python" ]; then
        have apt-get || fail "needs Python 3.11 or newer (up to 3.14); please install it"
        apt_update  # names can be looked up only once the lists are there
        packages=$(python_package)
        [ -n "$packages" ] || fail "needs Python 3.11 or newer, and this distribution's packages have none"
        apt_install "$packages"
        python=$(find_python)
        [ -n "$python" ] || fail "needs Python 3.11 or newer (up to 3.14); $packages did not bring it"
    fi

    packages=$(missing_packages "$purpose" "$python")
    # shellcheck disable=SC2086 # a list of words
    [ -z "$packages" ] || apt_install $packages

    install_python_packages "$purpose" "$python"

    if [ ! -e /dev/fuse ]; then
        say "/dev/fuse is missing, so nothing can be mounted here. Try 'modprobe fuse' as root;" \
            "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
    fi
}

# pip runs only when pyproject.toml has changed since the last time, and takes its indexes from the system's pip.conf.
install_python_packages() {
    local purpose=$1 python=$2 wanted stamp started=$SECONDS
    if [ -e "$VENV" ] && ! suits "$VENV/bin/python"; then
        say "$VENV has no working Python any more; making it again"
        rm -rf "$VENV"
    fi
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "making $VENV with $("$python" --version)"
        "$python" -m venv "$VENV"
    fi
    wanted=$(sha256sum <pyproject.toml | cut -c1-16)
    for stamp in "$VENV/.synofs-check" "$VENV/.synofs-$purpose"; do
        [ -x "$VENV/bin/synofs" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    done
    say "installing Python packages into $VENV (pyfuse3 is compiled; about a minute)"
    quietly "$VENV/bin/python" -m pip install --disable-pip-version-check -q -e ".[$purpose]" \
        || fail "pip could not install the Python packages, see above"
    echo "$wanted" >"$VENV/.synofs-$purpose"
    say "installed in $((SECONDS - started)) s"
}
