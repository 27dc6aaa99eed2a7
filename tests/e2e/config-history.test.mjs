// config-history.test.mjs - the settings of a running suite: applied, taken over by each service, compared, rolled back, changed by hand.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { withStack } from './lib/stack.mjs';
import { slow, until } from './lib/wait.mjs';

const more = 'continuity: { lease_ttl: 500ms, config: { look: 1s } }\n';

test('a configuration from hand to hand', { timeout: 120000 * slow }, () => withStack('config', () => more, async (stack) => {
  const run = (...args) => stack.cli(['config', ...args]);
  const history = async () => (await run('history', '--json')).out.trim().split('\n').filter(Boolean).map((l) => JSON.parse(l));
  await until('the first version', async () => (await history()).length === 1, 30000);
  const [first] = await history();
  assert.match(first.by, /^unknown \(file owner /);

  const was = fs.readFileSync(stack.config, 'utf8');
  const next = path.join(stack.dir, 'next.yaml');
  fs.writeFileSync(next, was.replace(/level: \w+/, 'level: debug'));
  const reloads = (s) => stack.log(s).split('settings reloaded').length - 1;

  const dry = await run('apply', next, '--dry-run');
  assert.equal(dry.code, 0, dry.err);
  assert.match(dry.out, /\+ {2}level: debug/);
  assert.equal(fs.readFileSync(stack.config, 'utf8'), was);
  assert.equal((await run('apply', next)).code, 2, 'who, and why?');

  const done = await run('apply', next, '--by', 'ada', '--reason', 'to see more');
  assert.equal(done.code, 0, done.out + done.err);
  assert.match(done.out, /applied as [0-9a-f]{12}/);
  assert.equal(fs.readFileSync(stack.config, 'utf8'), fs.readFileSync(next, 'utf8'));
  for (const s of ['breaker', 'continuity']) await until(`${s} takes it over`, () => reloads(s) === 1, 10000);
  const [second] = await history();
  assert.equal(second.by, 'ada');
  assert.equal(second.reason, 'to see more');

  fs.writeFileSync(next, was.replace(/level: \w+/, 'level: loud'));
  const wrong = await run('apply', next, '--by', 'ada', '--reason', 'x');
  assert.equal(wrong.code, 4);
  assert.match(wrong.err, /log\.level/);
  fs.writeFileSync(next, `${was}alert: { channels: [{ name: chat, type: slack, url: "https://hooks.example/T0/s3cret" }] }\n`);
  const secret = await run('apply', next, '--by', 'ada', '--reason', 'x');
  assert.equal(secret.code, 4);
  assert.doesNotMatch(secret.out + secret.err, /s3cret/);
  const stale = await run('apply', next, '--by', 'ada', '--reason', 'x', '--from', first.commit, '--force');
  assert.equal(stale.code, 4, 'made from an older version');

  const diff = await run('diff', first.commit.slice(0, 10));
  assert.equal(diff.code, 0, diff.err);
  assert.match(diff.out, /- {2}level: \w+\n\+ {2}level: debug/);

  const back = await run('rollback', first.commit.slice(0, 8), '--by', 'bob', '--reason', 'enough');
  assert.equal(back.code, 0, back.out + back.err);
  assert.equal(fs.readFileSync(stack.config, 'utf8'), was);
  for (const s of ['breaker', 'continuity']) await until(`${s} is back`, () => reloads(s) === 2, 10000);

  fs.writeFileSync(stack.config, was.replace(/level: \w+/, 'level: warn'));
  await until('a change by hand is accepted', async () => (await history()).length === 4, 20000);
  assert.equal((await history())[0].reason, 'changed in place');
  await until('and taken over', () => stack.log('breaker').includes('the settings were changed') && reloads('breaker') >= 2, 10000);

  await stack.kill('continuity');
  stack.run('continuity');
  await until('another leader has the same history', async () => (await history()).length === 4, 30000);
}, { services: ['audit', 'breaker', 'continuity'] }));
