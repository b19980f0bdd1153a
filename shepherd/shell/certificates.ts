/**
 * Certificates for QEMU's moves on one host, where its libvirt looks for them. The five files that QEMU reads are links
 * into one folder, and that is a link that is replaced in one step: no QEMU ever sees the key of one certificate beside
 * another. Certificates that somebody else put there are never touched.
 * Knows the host's files; makes no certificates.
 */
import { X509Certificate } from "node:crypto";
import type { CertificatePlace } from "#certificates/host-certificates";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import { type HostShell, runOk } from "#shell/shell";

const placeTimeoutMs: Ms = 30_000;

/** Sets `dir` to the folder that libvirtd hands to QEMU for moves: as its configuration says, or its default. */
const findFolder = `said() { sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\\"\\(.*\\)\\".*/\\1/p" "$conf" 2>/dev/null | tail -n 1; }
dir=$(said migrate_tls_x509_cert_dir)
if [ -z "$dir" ] && [ -d /etc/pki/libvirt-migrate ]; then dir=/etc/pki/libvirt-migrate; fi
[ -n "$dir" ] || dir=$(said default_tls_x509_cert_dir)
[ -n "$dir" ] || dir=/etc/pki/qemu
foreign() { [ -e "$dir/ca-cert.pem" ] && [ "$(readlink "$dir/ca-cert.pem")" != drover/ca.pem ]; }`;

/** The certificate that lies there, "foreign", or nothing. */
const look = `set -eu
conf=$1
${findFolder}
if foreign; then echo "foreign $dir"; exit 0; fi
if [ -s "$dir/drover/cert.pem" ] && [ -e "$dir/server-cert.pem" ]; then cat "$dir/drover/cert.pem"; fi`;

/**
 * Standard input: authority, certificate and key, each ended by a line of dots. $1: a name for this set, $2: QEMU's configuration. It may run as a
 * user of its own: that is whoever owns libvirt's folder for it.
 */
const place = `set -eu
umask 077
conf=$2
${findFolder}
if foreign; then echo "foreign $dir"; exit 0; fi
mkdir -p "$dir"
cd "$dir"
new=drover-$1
rm -rf "$new"
mkdir "$new"
for file in ca.pem cert.pem key.pem; do
  while IFS= read -r line && [ "$line" != ... ]; do printf '%s\\n' "$line"; done >"$new/$file"
done
chmod 755 "$new"
chmod 644 "$new/ca.pem" "$new/cert.pem"
chmod 400 "$new/key.pem"
if [ -d /var/lib/libvirt/qemu ]; then chown --reference=/var/lib/libvirt/qemu "$new/key.pem"; fi
sync "$new/key.pem" "$new/cert.pem" "$new/ca.pem" 2>/dev/null || sync
old=$(readlink drover 2>/dev/null || true)
ln -s "$new" drover.new.$$
mv -T drover.new.$$ drover
for pair in ca-cert:ca server-cert:cert server-key:key client-cert:cert client-key:key; do
  link=\${pair%%:*}.pem
  [ "$(readlink "$link" 2>/dev/null)" = "drover/\${pair#*:}.pem" ] && continue
  ln -s "drover/\${pair#*:}.pem" "$link.new.$$"
  mv -T "$link.new.$$" "$link"
done
chmod 755 .
case $old in
"" | "$new") ;;
drover-*) rm -rf "$old" ;;
esac
echo placed`;

/** Faults `tls.foreign_certificates`, `host.unreachable`, `shell.exit`. */
export function certificatesOnHost(
  shell: HostShell,
  configurationFile = "/etc/libvirt/qemu.conf",
): CertificatePlace {
  const refuseForeign = (answer: string) => {
    if (!answer.startsWith("foreign ")) return;
    const folder = answer.slice("foreign ".length).trim();
    throw new Fault("tls.foreign_certificates", { host: shell.hostId, folder });
  };
  return {
    async notAfterMs() {
      const { stdout } = await runOk(shell, ["sh", "-c", look, "sh", configurationFile], {
        timeoutMs: placeTimeoutMs,
      });
      refuseForeign(stdout);
      if (!stdout.includes("BEGIN CERTIFICATE")) return undefined;
      return new X509Certificate(stdout).validToDate.getTime();
    },
    async place({ authorityPem, certificatePem, keyPem, serial }) {
      const input = [authorityPem, certificatePem, keyPem].map((pem) => `${pem}...\n`).join("");
      const { stdout } = await runOk(shell, ["sh", "-c", place, "sh", serial, configurationFile], {
        input,
        timeoutMs: placeTimeoutMs,
      });
      refuseForeign(stdout);
    },
  };
}
