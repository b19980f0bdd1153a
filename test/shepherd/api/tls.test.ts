/** The TCP listener with a certificate: a client that knows the authority gets through, another does not. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { TokenAnswer } from "@drover/shepherd/api/contract";
import { afterAll, expect, test } from "@jest/globals";
import { run } from "./shepherd.ts";

const folder = mkdtempSync(join(tmpdir(), "drover-tls-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a token crosses only an encrypted line that was verified", async () => {
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  execFileSync(
    "openssl",
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=drover -addext subjectAltName=IP:127.0.0.1 -keyout ${key} -out ${cert}`.split(
      " ",
    ),
    { stdio: "pipe" },
  );
  const running = await run(`listen: "127.0.0.1:0"\ntls: { cert_file: ${cert}, key_file: ${key} }`);
  try {
    const { token } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
      body: { name: "eyes", role: "reader" },
    });
    const endpoint = running.shepherd.listening ?? "";
    expect(endpoint).toMatch(/^https:/);
    const trusting = new ShepherdClient({ endpoint, token, caFile: cert });
    await expect(trusting.get("/v1/status")).resolves.toMatchObject({ world: "simulated" });
    const wary = new ShepherdClient({ endpoint, token });
    await expect(wary.get("/v1/status")).rejects.toMatchObject({ code: "shepherd.unreachable" });
  } finally {
    await running.end();
  }
});
