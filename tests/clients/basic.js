// ioredis against the server at argv[2]: what an application does on its first day.

const assert = require("node:assert/strict");
const Redis = require("ioredis");

async function strings(redis) {
  assert.equal(await redis.set("greeting", "hello", "EX", 100), "OK");
  assert.equal(await redis.get("greeting"), "hello");
  assert.equal(await redis.set("greeting", "again", "NX"), null);
  assert.equal(await redis.incrby("counter", 42), 42);
  assert.equal(await redis.mset(Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`many:${i}`, i]))), "OK");
  assert.deepEqual(await redis.mget("many:1", "none", "many:49"), ["1", null, "49"]);
  const blob = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => i & 255));
  assert.equal(await redis.set("blob", blob), "OK");
  assert.deepEqual(await redis.getBuffer("blob"), blob);
  await assert.rejects(redis.incr("greeting"), /^ReplyError: ERR value is not an integer or out of range$/);
}

async function scans(redis) {
  const seen = new Set();
  for await (const keys of redis.scanStream({ match: "many:*", count: 7 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 50);
  assert.equal(await redis.unlink(...seen), 50);
}

async function hashes(redis) {
  assert.equal(await redis.hset("user", { name: "Ada", born: 1815 }), 2);
  assert.deepEqual(await redis.hgetall("user"), { name: "Ada", born: "1815" });
  assert.equal(await redis.hincrby("user", "visits", 3), 3);
  assert.equal(await redis.hset("large", Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`f${i}`, i]))), 1000);
  let fields = 0;
  for await (const pairs of redis.hscanStream("large", { count: 50 })) fields += pairs.length / 2;
  assert.equal(fields, 1000);
  assert.equal(await redis.rename("large", "other"), "OK");
  assert.equal(await redis.hlen("other"), 1000);
  await assert.rejects(redis.get("user"), /^ReplyError: WRONGTYPE /);
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.set(`p:${i}`, i).get(`p:${i}`);
  const replies = await pipeline.exec();
  assert.equal(replies.length, 2000);
  replies.forEach(([error, reply], i) => assert.deepEqual([error, reply], [null, i % 2 ? `${(i - 1) / 2}` : "OK"]));
}

async function automatic(port) {
  // Every command of one turn of the event loop goes into one pipeline.
  const redis = new Redis({ port, enableAutoPipelining: true });
  const replies = await Promise.all(Array.from({ length: 500 }, (_, i) => redis.incr(`auto:${i % 7}`)));
  assert.equal(Math.max(...replies), 72);
  redis.disconnect();
}

async function main(port) {
  const redis = new Redis({ port, connectionName: "basic", db: 3 });
  assert.equal(await redis.client("GETNAME"), "basic");
  assert.match(await redis.info("server"), /redis_version:7\.2\.4\r\n/);
  await strings(redis);
  await scans(redis);
  await hashes(redis);
  await pipelines(redis);
  await automatic(port);
  assert.equal(await redis.flushall(), "OK");
  assert.equal(await redis.dbsize(), 0);
  assert.equal(await redis.quit(), "OK");
}

main(Number(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});
