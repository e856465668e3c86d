// ioredis over TLS, with a certificate (arguments: port, authority, certificate, key), as the user "app" who may do some of it.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const Redis = require("ioredis");

async function main() {
  const [port, ca, cert, key] = process.argv.slice(2);
  const tls = { ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
  const options = { host: "localhost", port: Number(port), tls };
  const admin = new Redis(options);
  await admin.mset({ "shared:1": "s", private: "p" });
  const app = new Redis({ ...options, username: "app", password: "pw" });
  assert.equal(await app.call("ACL", "WHOAMI"), "app");
  const blob = Buffer.alloc(300_000, "b");
  assert.equal(await app.set("app:blob", blob), "OK");
  assert.deepEqual(await app.getBuffer("app:blob"), blob);
  assert.equal(await app.get("shared:1"), "s");
  await assert.rejects(app.set("shared:1", "t"), /NOPERM No permissions to access a key/);
  await assert.rejects(app.flushall(), /NOPERM User app has no permissions to run the 'flushall' command/);
  const pipeline = app.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.set(`app:${i}`, i);
  assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === "OK"));
  const intruder = new Redis({ ...options, username: "app", password: "wrong", retryStrategy: null, lazyConnect: true });
  intruder.on("error", () => {});
  await assert.rejects(intruder.connect().then(() => intruder.ping()));
  for (const client of [app, admin]) await client.quit();
  intruder.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
