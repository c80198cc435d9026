// node-postgres through the proxy. Settings come from PGHOST, PGPORT and so on; the first failed check ends the program.
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import pg from "pg";
import Cursor from "pg-cursor";

const pooled = process.env.TARGET_KIND !== "direct";
// The certificate authority to believe; without one, in clear.
const ssl = process.env.PGDOG_TEST_CA ? { ca: fs.readFileSync(process.env.PGDOG_TEST_CA) } : false;
let passed = 0;

async function check(name, work) {
  const client = new pg.Client({ ssl, enableChannelBinding: Boolean(ssl), connectionTimeoutMillis: 20000 });
  await client.connect();
  try {
    await work(client);
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${error.stack}`);
    process.exitCode = 1;
  } finally {
    await client.end();
  }
}

await check("unnamed statements", async (client) => {
  for (let n = 0; n < 100; n++) {
    const { rows } = await client.query("SELECT $1::int * 2 AS twice", [n]);
    assert.deepEqual(rows, [{ twice: n * 2 }]);
  }
});

await check("named statements on changing servers", async (client) => {
  const pids = new Set();
  for (let n = 0; n < 200; n++) {
    const name = `s${n % 3}`;
    const text = `SELECT $1::int + ${n % 3} AS sum, pg_backend_pid() AS pid`;
    const { rows } = await client.query({ name, text, values: [n] });
    assert.equal(rows[0].sum, n + (n % 3));
    pids.add(rows[0].pid);
  }
  assert.ok(!pooled || pids.size > 1, "the servers did not change: this test tests nothing");
});

await check("many queries without waiting", async (client) => {
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, n) => client.query({ name: `q${n % 5}`, text: `SELECT $1::int AS v, ${n % 5} AS k`, values: [n] })),
  );
  answers.forEach(({ rows }, n) => assert.deepEqual(rows, [{ v: n, k: n % 5 }]));
});

await check("errors leave named statements usable", async (client) => {
  for (let n = 0; n < 30; n++) {
    await assert.rejects(client.query({ name: "div", text: "SELECT 1 / $1::int", values: [0] }), { code: "22012" });
    const { rows } = await client.query({ name: "ok", text: "SELECT 6 / $1::int AS v", values: [3] });
    assert.equal(rows[0].v, 2);
  }
  await assert.rejects(client.query({ name: "never", text: "SELEKT" }), { code: "42601" });
});

await check("transactions", async (client) => {
  await client.query("CREATE TABLE IF NOT EXISTS node_t (id int PRIMARY KEY, v jsonb)");
  await client.query("TRUNCATE node_t");
  for (let n = 0; n < 20; n++) {
    await client.query("BEGIN");
    await client.query({ name: "ins", text: "INSERT INTO node_t VALUES ($1, $2)", values: [n, { n }] });
    await client.query(n % 2 ? "COMMIT" : "ROLLBACK");
  }
  const { rows } = await client.query("SELECT count(*)::int AS c, min((v->>'n')::int) AS m FROM node_t");
  assert.deepEqual(rows, [{ c: 10, m: 1 }]);
});

await check("cursors with row limits", async (client) => {
  await client.query("BEGIN");
  const cursor = client.query(new Cursor("SELECT generate_series(1, $1::int) AS n", [100]));
  const found = [];
  for (;;) {
    const rows = await cursor.read(7);
    if (rows.length === 0) break;
    found.push(...rows.map((row) => row.n));
  }
  await cursor.close();
  await client.query("COMMIT");
  assert.deepEqual(found, Array.from({ length: 100 }, (_, n) => n + 1));
});

await check("large values both ways", async (client) => {
  const big = "ü".repeat(500000);
  const { rows } = await client.query("SELECT $1::text AS v, length($1) AS l", [big]);
  assert.equal(rows[0].l, 500000);
  assert.equal(rows[0].v, big);
});

await check("notifications", async (client) => {
  const heard = [];
  client.on("notification", ({ channel, payload }) => heard.push(`${channel}: ${payload}`));
  await client.query("LISTEN node_news");
  const other = new pg.Client({ ssl });
  await other.connect();
  for (const payload of ["first", "it's second"]) await other.query("SELECT pg_notify('node_news', $1)", [payload]);
  await other.end();
  const end = Date.now() + 10000;
  while (heard.length < 2 && Date.now() < end) await client.query("SELECT 1");
  assert.deepEqual(heard, ["node_news: first", "node_news: it's second"]);
  await client.query("UNLISTEN *");
});

await check("cancel", async (client) => {
  const began = Date.now();
  const sleeping = client.query("SELECT pg_sleep(30)");
  setTimeout(() => {
    // The driver's own way, without TLS: the bytes of a CancelRequest on a connection of their own.
    const packet = Buffer.alloc(16);
    [16, 80877102, client.processID, client.secretKey].forEach((value, at) => packet.writeInt32BE(value, at * 4));
    const socket = net.connect(Number(process.env.PGPORT), process.env.PGHOST, () => socket.end(packet));
  }, 300);
  await assert.rejects(sleeping, { code: "57014" });
  assert.ok(Date.now() - began < 5000);
  assert.equal((await client.query("SELECT 1 AS v")).rows[0].v, 1);
});

const pool = new pg.Pool({ max: 20, ssl });
const sums = await Promise.all(
  Array.from({ length: 300 }, (_, n) => pool.query({ name: "pooled", text: "SELECT $1::int + 1 AS v", values: [n] })),
);
sums.forEach(({ rows }, n) => assert.equal(rows[0].v, n + 1));
await pool.end();
console.log(`ok a pool of 20\n${passed + 1} checks passed`);
