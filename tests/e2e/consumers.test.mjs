// consumers.test.mjs - consumers of a user's own, as the examples are: the present, then every change, without gap or double, whatever breaks.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { build, Consumer } from './lib/consumers.mjs';
import { ceHeaders, encode } from './lib/contract.mjs';
import { RightsStack } from './lib/rights.mjs';
import { withStack } from './lib/stack.mjs';
import { until } from './lib/wait.mjs';

const TARGETS = 20;

test('the present, then every change, without gap or double', { timeout: 240000 }, async () => {
  await withStack('consumers', () => 'targets: []\n', async (stack) => {
    const programs = build(stack.dir);
    const nc = await stack.nats('breaker'); // says changes as the breaker does
    const js = nc.jetstream();
    const epochs = new Map(); // target -> the last that was said
    const say = async (i) => {
      const target = `some.target-${i}`, epoch = (epochs.get(target) ?? 0) + 1;
      const data = encode('BreakerChanged', { target, state: epoch % 2 ? 'BREAKER_STATE_OPEN' : 'BREAKER_STATE_CLOSED', epoch, detail: `"quoted" \\ and ü`, changed_unix_ms: Date.now() });
      for (;;) { // as bus_store: the same id until it is acknowledged
        const ok = await js.publish(`redoubt.v1.breaker.${target}`, data, { headers: ceHeaders('BreakerChanged', `breaker/${target}/${epoch}/${stack.natsPort}`, 'breaker'), timeout: 2000 }).catch(() => null);
        if (ok) break;
      }
      epochs.set(target, epoch);
    };
    await until('the streams', () => nc.request('$JS.API.STREAM.INFO.REDOUBT_DEAD').then((m) => !m.json().error, () => false));
    for (let i = 0; i < TARGETS; i++) await say(i);

    const env = (user) => ({ NATS_URL: `nats://127.0.0.1:${stack.natsPort}`, NATS_USER: user, NATS_PASSWORD_FILE: path.join(stack.dir, 'secrets', user, 'nats') });
    const all = { js: new Consumer(programs.js, env('siem')), c: new Consumer(programs.c, env('lake')) };
    const of = (c) => c.told.filter((m) => m.subject.startsWith('redoubt.v1.breaker.'));
    const both = async (what, holds, limit_ms = 30000) => {
      for (const [name, c] of Object.entries(all)) await until(() => `${name}: ${what}; ${of(c).length} told\n${c.err}`, () => { assert.ok(c.running, `${name} runs: ${c.err}`); return holds(c); }, limit_ms);
    };
    const latest = (c) => new Map(of(c).map((m) => [m.message.target, m.message.epoch]));
    const current = (c) => [...epochs].every(([t, e]) => latest(c).get(t) === e);
    try {
      // The present.
      await both('the present', (c) => /this is the present of REDOUBT_STATE/.test(c.err) && current(c));
      for (const c of Object.values(all)) {
        assert.equal(of(c).length, TARGETS, 'one line for each subject');
        assert.deepEqual(Object.keys(of(c)[0]), ['seq', 'time', 'subject', 'id', 'type', 'message']);
        assert.equal(of(c)[0].message.state, 'BREAKER_STATE_OPEN');
        assert.equal(of(c)[0].message.detail, '"quoted" \\ and ü');
      }
      // Live, each before the next one is said: every one is told.
      for (let i = 0; i < 40; i++) {
        await say(i % 3);
        await both('the change', current);
      }
      for (const c of Object.values(all)) assert.equal(of(c).length, TARGETS + 40, 'no gap');
      // A burst; and the server killed in the middle of one.
      for (let i = 0; i < 200; i++) await say(i % TARGETS);
      await both('the end of the burst', current);
      const saying = (async () => { for (let i = 0; i < 100; i++) await say(i % TARGETS); })();
      await stack.kill('nats');
      stack.run('nats');
      await saying;
      await both('what was said while the server was away', current);
      for (const [name, c] of Object.entries(all)) {
        const seqs = c.told.map((m) => m.seq), ids = c.told.map((m) => m.id);
        assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b), `${name}: in order`);
        assert.equal(new Set(ids).size, ids.length, `${name}: nothing twice`);
      }
      // The stream is lost and made anew, with other numbers: what was told already is not told again, and what is new is.
      // They stand still meanwhile, and so hear none of it.
      for (const c of Object.values(all)) c.child.kill('SIGSTOP');
      await stack.kill('nats');
      fs.rmSync(path.join(stack.dir, 'nats'), { recursive: true, force: true });
      stack.run('nats');
      await until('the streams again', () => nc.request('$JS.API.STREAM.INFO.REDOUBT_DEAD').then((m) => !m.json().error, () => false));
      for (let i = 0; i < 10; i++) await say(i % 3);
      for (const c of Object.values(all)) c.child.kill('SIGCONT');
      await both('changes of the new stream', (c) => current(c), 60000);
      for (const [name, c] of Object.entries(all)) {
        const ids = c.told.map((m) => m.id);
        assert.equal(new Set(ids).size, ids.length, `${name}: nothing twice`);
        assert.match(c.err, /the connection is away/);
      }
      for (const [name, c] of Object.entries(all)) assert.deepEqual(await c.stop(), { code: 0, signal: null }, `${name} ends in order`);
    } finally {
      for (const c of Object.values(all)) if (c.running) await c.stop('SIGKILL');
    }
    // Whom the server refuses, it says so in one line and ends.
    for (const [name, program] of Object.entries(programs)) {
      const c = new Consumer(program, { ...env('siem'), NATS_USER: 'nobody' });
      assert.deepEqual(await c.ended, { code: 1, signal: null }, `${name}: ${c.err}`);
      assert.match(c.err, /^consumer: cannot connect: .*[Aa]uth.*\n$/, name);
    }
  }, { Stack: RightsStack, services: ['audit'] });
});
