#!/bin/sh
# A real fwupd daemon with its own test devices, on a message bus of its own: fwupd.sh DIRECTORY COMMAND...
# Runs the command with that bus as the system's. In DIRECTORY it leaves signed.cab, which a key signed that the daemon
# trusts, stranger.cab, whose signer it does not know, bent.cab, whose payload is not what was signed, and unsigned.cab.
# Needs root: the trusted keys are put in the place of the machine's in a name space of the daemon's own.
set -eu
here=$1
shift
data=/usr/share/installed-tests/fwupd
mkdir -p "$here/config" "$here/state" "$here/cache" "$here/keys" "$here/trusted"

key() { # key NAME: a key that signs for itself
    printf '[req]\ndistinguished_name=name\nx509_extensions=use\nprompt=no\n[name]\nCN=%s\n[use]\nbasicConstraints=critical,CA:true\nkeyUsage=digitalSignature,keyCertSign\nextendedKeyUsage=codeSigning\nsubjectKeyIdentifier=hash\n' "$1" >"$here/keys/$1.conf"
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config "$here/keys/$1.conf" \
        -keyout "$here/keys/$1.key" -out "$here/keys/$1.pem" 2>/dev/null
}
cabinet() { # cabinet FILE KEY DIRECTORY: what is in DIRECTORY, with signatures by KEY of what fwupd itself ships
    python3 - "$here" "$2" <<'PYTHON'
import gzip, hashlib, json, pathlib, subprocess, sys
here, key = pathlib.Path(sys.argv[1]), sys.argv[2]
def item(name):
    text = subprocess.run(
        ["openssl", "cms", "-sign", "-binary", "-md", "sha256", "-nosmimecap", "-noattr", "-outform", "PEM",
         "-in", f"/usr/share/installed-tests/fwupd/{name}",
         "-signer", here / "keys" / f"{key}.pem", "-inkey", here / "keys" / f"{key}.key"],
        check=True, capture_output=True, text=True).stdout
    content = pathlib.Path(f"/usr/share/installed-tests/fwupd/{name}").read_bytes()
    blob = lambda kind, text: {"Kind": kind, "Flags": 1, "Timestamp": 1700000000, "Data": text}
    signature = blob(3, text.replace("CMS-----", "PKCS7-----"))
    return {"Id": name, "Blobs": [blob(1, hashlib.sha256(content).hexdigest()), signature]}
names = ["fakedevice124.bin", "fakedevice124.metainfo.xml"]
catalogue = {"JcatVersionMajor": 0, "JcatVersionMinor": 1, "Items": [item(name) for name in names]}
(here / "firmware.jcat").write_bytes(gzip.compress(json.dumps(catalogue).encode()))
PYTHON
    fwupdtool build-cabinet "$here/$1" "$3/fakedevice124.bin" "$3/fakedevice124.metainfo.xml" "$here/firmware.jcat" >&2
}
key trusted
key stranger
cp "$here/keys/trusted.pem" "$here/trusted/"
mkdir -p "$here/bent"
{ cat "$data/fakedevice124.bin"; echo; } >"$here/bent/fakedevice124.bin"
sum() { "$1" "$2/fakedevice124.bin" | cut -d' ' -f1; }
sed -e "s/$(sum sha1sum "$data")/$(sum sha1sum "$here/bent")/; s/$(sum sha256sum "$data")/$(sum sha256sum "$here/bent")/" \
    "$data/fakedevice124.metainfo.xml" >"$here/bent/fakedevice124.metainfo.xml"
cabinet signed.cab trusted "$data"
cabinet stranger.cab stranger "$data"
cabinet bent.cab trusted "$here/bent"
fwupdtool build-cabinet "$here/unsigned.cab" "$data/fakedevice124.bin" "$data/fakedevice124.metainfo.xml" >&2

cat >"$here/bus.conf" <<XML
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=$here/bus</listen><policy context="default"><allow user="*"/>
<allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
XML
# The last word of the configuration is the test's: `minka` may not depend on what the daemon takes.
printf '[fwupd]\nTestDevices=true\nOnlyTrusted=%s\n' "${ONLY_TRUSTED:-true}" >"$here/config/fwupd.conf"
export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$here/bus"
children=
trap 'kill $children 2>/dev/null || true; wait' EXIT
dbus-daemon --config-file="$here/bus.conf" --nofork --nopidfile 2>"$here/bus.log" &
children=$!
for _ in $(seq 100); do [ -S "$here/bus" ] && break; sleep 0.1; done
/usr/lib/polkit-1/polkitd --no-debug >"$here/polkit.log" 2>&1 &
children="$children $!"
CONFIGURATION_DIRECTORY="$here/config" STATE_DIRECTORY="$here/state" CACHE_DIRECTORY="$here/cache" \
    unshare --mount sh -c 'mount --bind "$1" /etc/pki/fwupd && exec /usr/libexec/fwupd/fwupd --verbose' sh "$here/trusted" \
    >"$here/fwupd.log" 2>&1 &
children="$children $!"
for _ in $(seq 300); do grep -q 'ready for requests' "$here/fwupd.log" && break; sleep 0.2; done
grep -q 'ready for requests' "$here/fwupd.log" || { tail -5 "$here/fwupd.log" >&2; exit 77; }
"$@"
