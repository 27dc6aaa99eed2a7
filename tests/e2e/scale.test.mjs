// scale.test.mjs - replicas of every service come, go and are killed while outages come and go: nothing lost, nothing twice. See lib/scale-story.mjs.
//
// REDOUBT_SCALE_EVENTS says how many events (default 8); REDOUBT_SCALE_SEED repeats a choice.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { baselineText } from './lib/actor.mjs';
import { Ledger } from './lib/ledger.mjs';
import { Replicas } from './lib/replicas.mjs';
import { tell } from './lib/scale-same.mjs';
import { agentNames, MOST, runScaling, settings, withWorld } from './lib/scale-story.mjs';
import { withStack } from './lib/stack.mjs';
import { until } from './lib/wait.mjs';
import { slack } from './lib/world.mjs';

const EVENTS = Number(process.env.REDOUBT_SCALE_EVENTS ?? 8);
const SEED = Number(process.env.REDOUBT_SCALE_SEED ?? Date.now() % 1e6);
const AGENTS = agentNames(5);

// A suite of processes, as many of each as is asked for.
class Town {
  constructor(stack, w, nc) {
    Object.assign(this, { stack, w, nc, replicas: new Replicas(stack) });
  }

  async begin(first) {
    for (const [service, n] of Object.entries(first)) await this.scale(service, n);
  }

  scale(service, n, which) {
    return this.replicas.scale(service, n, which);
  }

  kill(service, which) {
    return this.replicas.kill(service, which);
  }

  // Until that many are at work.
  async settled(service, n) {
    const redis = await this.stack.redis();
    await until(`${n} of ${service} in the list`, async () => (await redis.zCard(`redoubt:{${service}}:members`)) === n, 30000);
  }

  trailDirs() {
    const top = path.join(this.stack.dir, 'data/audit');
    return fs.readdirSync(top).map((d) => path.join(top, d)).filter((d) => fs.existsSync(path.join(d, 'checkpoint')));
  }

  async trails() {
    return this.trailDirs().flatMap((d) => fs.readdirSync(d).filter((f) => f.endsWith('.seg')).map((f) => fs.readFileSync(path.join(d, f))));
  }
}

// `body(town)` on a suite that has no replicas yet.
const withTown = (name, body) => withWorld('127.0.0.1', (w) => withStack(name, (stack) => {
  fs.writeFileSync(path.join(stack.dir, 'baseline.yaml'), baselineText());
  return settings(w, AGENTS, { baseline: path.join(stack.dir, 'baseline.yaml'), record: path.join(stack.dir, 'alerts.jsonl') });
}, async (stack) => {
  const signed = await stack.cli(['baseline', 'sign', path.join(stack.dir, 'baseline.yaml'), '--by', 'e2e']);
  assert.equal(signed.code, 0, signed.err);
  const town = new Town(stack, w, await stack.nats('agents'));
  let told;
  try {
    told = await body(town);
  } finally {
    await town.replicas.stop();
  }
  assert.deepEqual(town.replicas.failed, [], 'who is told to end ends with 0, and nobody else ends');
  for (const dir of town.trailDirs()) {
    const r = await stack.cli(['audit', 'verify', dir]);
    assert.equal(r.code, 0, `audit verify: ${r.out}${r.err}`);
  }
  return told;
}, { services: [] }));

test(`${EVENTS} events`, { timeout: 600000 }, () => withTown('scale', (town) => runScaling(town, { seed: SEED, n: EVENTS, agents: AGENTS })));

test('one replica of each or several: the same directives, alerts and actions', { timeout: 300000 }, async () => {
  const tellWith = (n) => withTown(`same-${n}`, async (town) => {
    await town.begin(Object.fromEntries(Object.keys(MOST).map((service) => [service, n])));
    await town.settled('health', n);
    return tell(town, AGENTS);
  });
  const [one, several] = await Promise.all([tellWith(1), tellWith(3)]);
  assert.deepEqual(several, one);
});

test('a beginning that a killed alert service had in hand is told after its end, and says so', { timeout: 120000 }, async () => {
  const chat = await slack();
  try {
    await withStack('late', (stack) => `alert:
  channels: [{ name: chat, type: slack, url: "${chat.url}/hook", attempt: 20s, rate: 0 }, { name: record, type: file, path: ${path.join(stack.dir, 'alerts.jsonl')} }]
  routes: [{ channels: [chat, record] }]
`, async (stack) => {
      const ledger = new Ledger(await stack.nats());
      const raise = (id, resolved) => ledger.publish('redoubt.v1.alert', 'Alert', { id, dedup_key: 'thing', severity: 'SEVERITY_HIGH', source: 'e2e', summary: `news ${id}.`, resolved, raised_unix_ms: Date.now() });
      const told = (...parts) => chat.messages.some((m) => parts.every((part) => JSON.stringify(m).includes(part)));
      const { handler } = chat;
      chat.handler = () => {}; // takes it, and never answers
      await raise('begins', false);
      await until('the chat to be asked', () => chat.requests.some((r) => r.body.includes('news begins.')), 30000);
      await stack.kill('alert');
      chat.handler = handler;
      stack.run('alert');
      await raise('ends', true);
      await until('the end to be told', () => told('news ends.'), 30000);
      await until('the beginning to be told', () => told('news begins.'), 30000);
      assert.ok(told('news begins.', 'it is over meanwhile'), JSON.stringify(chat.messages));
    }, { services: ['alert'] });
  } finally {
    await chat.close();
  }
});
