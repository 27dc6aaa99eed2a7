// scale-down.test.mjs - a replica that is told to go gives back at once what it alone held; one that is killed loses nothing that it had.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { record, TrailStack } from './lib/trail.mjs';
import { withSmall } from './lib/small.mjs';
import { until } from './lib/wait.mjs';

// Whose replicas share work by leases or a list in Redis, and what stands there for it.
const SHARED = {
  alert: ['redoubt:{lease:alert}'],
  continuity: ['redoubt:{lease:continuity}'],
  fallback: ['redoubt:{lease:fallback-*}', 'redoubt:{fallback}:members'],
  guard: ['redoubt:{lease:guard-*}', 'redoubt:{guard}:members'],
  health: ['redoubt:{health}:members'],
};
// So long that nothing ends by itself while the test looks; who waits for a lease looks three times in it.
const LONG = `
health: { member_ttl: 30s }
fallback: { lease_ttl: 30s, member_ttl: 30s }
guard: { lease_ttl: 30s, member_ttl: 30s }
continuity: { lease_ttl: 30s }
`;

// The names in a lease's text or a list of members.
async function holders(redis, patterns) {
  const found = [];
  for (const pattern of patterns)
    for (const key of await redis.keys(pattern)) {
      const type = await redis.type(key);
      if (type === 'string') found.push({ key, who: (await redis.get(key))?.split(' ')[1] });
      if (type === 'zset') for (const who of await redis.zRange(key, 0, -1)) found.push({ key, who });
    }
  return found.filter((f) => f.who);
}

const indexOf = (stack, name) => /instance=(\S+)/.exec(stack.log(name))?.[1];

test('what a replica holds is free as soon as it is told to end', { timeout: 240000 }, () => withSmall('scale-down', async (stack) => {
  fs.writeFileSync(stack.config, long(fs.readFileSync(stack.config, 'utf8')));
  const redis = await stack.redis();
  for (const [service, patterns] of Object.entries(SHARED)) {
    if (stack.running(service)) await stack.kill(service, 'SIGTERM');
    stack.define(`${service}-b`, stack.procs.get(service).command, stack.procs.get(service).args);
    stack.run(service);
    await until(`${service} to hold something`, async () => (await holders(redis, patterns)).length > 0, 60000);
    const a = indexOf(stack, service);
    stack.run(`${service}-b`);
    await until(`the second ${service}`, () => /event=started/.test(stack.log(`${service}-b`)), 60000);
    const b = indexOf(stack, `${service}-b`);
    assert.ok(a && b && a !== b, `${service}: ${a} and ${b} have directories of their own`);
    const before = (await holders(redis, patterns)).filter((h) => h.who.includes(a)).map((h) => h.key);
    assert.ok(before.length > 0, `${service}: ${a} holds something`);
    const end = await stack.kill(service, 'SIGTERM');
    assert.equal(end.code, 0, `${service} drained`);
    // Nothing of it is left; what there is to hold, the other one takes.
    await until(`nothing to be held by ${a}`, async () => !(await holders(redis, patterns)).some((h) => h.who.includes(a)), 15000);
    await until(`${b} to hold what ${a} held`, async () => {
      const now = (await holders(redis, patterns)).filter((h) => h.who.includes(b)).map((h) => h.key);
      return before.every((k) => now.includes(k));
    }, 30000);
    await stack.kill(`${service}-b`, 'SIGTERM');
  }
}, { agent: false }));

// The longer times go into the sections that are there, or become ones.
function long(text) {
  for (const line of LONG.trim().split('\n')) {
    const [, section, values] = /^(\w+): \{ (.*) \}$/.exec(line);
    const inline = new RegExp(`^${section}: \\{`, 'm');
    const block = new RegExp(`^${section}:\\n( +)`, 'm');
    if (inline.test(text)) text = text.replace(inline, `${section}: { ${values},`);
    else if (block.test(text)) text = text.replace(block, (_, indent) => `${section}:\n${values.split(', ').map((v) => `${indent}${v}\n`).join('')}${indent}`);
    else text += `${line}\n`;
  }
  return text.replace(/^alert:\n( +)/m, (_, indent) => `alert:\n${indent}lease_ttl: 30s\n${indent}`);
}

test('a record that stands in two trails is shown once', { timeout: 120000 }, async () => {
  const t = await new TrailStack('twins', 'audit: { checkpoint: 200ms }\n').open();
  try {
    const told = Array.from({ length: 5 }, () => record({}));
    await t.publish(told);
    await t.settled();
    await t.stack.kill('audit', 'SIGTERM');
    // Another volume: nobody there can know what the first one wrote.
    const other = path.join(t.stack.dir, 'other');
    const config = path.join(t.stack.dir, 'other.yaml');
    fs.mkdirSync(other);
    fs.writeFileSync(config, fs.readFileSync(t.stack.config, 'utf8').replace(/data_dir: .*/, `data_dir: ${other}`));
    t.stack.define('audit-other', t.stack.procs.get('audit').command, ['-c', config]);
    t.stack.run('audit-other');
    const again = told.slice(0, 3);
    for (const [i, r] of again.entries()) await t.publishAs(r, `again-${i}`);
    await t.publish([record({})]);
    await t.settled();
    const dirs = [t.dir(), path.join(other, 'audit/0')];
    const out = await t.stack.cli(['audit', 'export', ...dirs]);
    const ids = out.out.trim().split('\n').map((l) => JSON.parse(l)).filter((l) => l.record).map((l) => l.record.id);
    assert.equal(new Set(ids).size, ids.length, 'none is shown twice');
    assert.deepEqual(ids.filter((id) => id.startsWith('made-')).length, 6);
    assert.match(out.err, /3 records stand in the trails of two replicas/);
  } finally {
    await t.stack.dispose();
  }
});
