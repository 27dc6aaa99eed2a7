// fail-secure.test.mjs - with Redis, NATS or the state away nothing gets looser; a freeze outlives everything.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decode } from './lib/contract.mjs';
import { readAudit } from './lib/agent.mjs';
import { AGENT, PRIMARY, last, withSmall } from './lib/small.mjs';
import { pause, until } from './lib/wait.mjs';

const WATCH_MS = 4000; // longer than every hold of the settings used here

async function outage(w) {
  await w.primary.close();
  await w.backup.close();
  await until('security fallback', () => w.agent.state.posture === 'POSTURE_SECURITY_FALLBACK' && w.backend.active, 40000);
}
async function mended(w) {
  await w.primary.open();
  await w.backup.open();
}
// Nothing may get looser while `ms` pass.
async function holds(w, ms = WATCH_MS) {
  const end = Date.now() + ms;
  while (Date.now() < end) {
    assert.equal(w.agent.state.posture, 'POSTURE_SECURITY_FALLBACK');
    assert.ok(w.backend.active, 'the override stays');
    await pause(50);
  }
}
const normal = (w) => until('normal again', () => w.agent.state.posture === 'POSTURE_NORMAL' && !w.backend.active, 60000);

describe('fail secure', { concurrency: 4 }, () => {
  test('Redis away: no way back until it is there', { timeout: 180000 }, () => withSmall('fsredis', async (stack, w) => {
    await outage(w);
    await stack.kill('redis');
    await mended(w);
    await holds(w);
    stack.run('redis');
    await normal(w);
  }));

  test('Redis away before the outage: alerted, and the stricter position follows when it is back', { timeout: 180000 }, () => withSmall('fsredis2', async (stack, w) => {
    await stack.kill('redis');
    await until('somebody is told', () => w.mail.messages.some((m) => /redis|store|shared state/i.test(m.text)), 30000);
    await w.primary.close();
    await w.backup.close();
    await pause(500);
    stack.run('redis');
    await until('security fallback', () => w.agent.state.posture === 'POSTURE_SECURITY_FALLBACK' && w.backend.active, 40000);
    await mended(w);
    await normal(w);
  }));

  test('NATS away: the override stays, and the way back follows', { timeout: 180000 }, () => withSmall('fsnats', async (stack, w) => {
    await outage(w);
    await stack.kill('nats');
    await mended(w);
    await holds(w);
    stack.run('nats');
    await normal(w);
  }));

  test('Redis emptied: the position is rebuilt from the stream, and no epoch goes back', { timeout: 180000 }, () => withSmall('fsempty', async (stack, w) => {
    await outage(w);
    const epoch = w.agent.epoch;
    const redis = await stack.redis();
    for (const s of ['fallback', 'breaker']) await stack.kill(s);
    await redis.flushAll();
    for (const s of ['fallback', 'breaker']) stack.run(s);
    await holds(w, 6000);
    assert.ok(w.agent.epoch >= epoch);
    await mended(w);
    await normal(w);
    assert.ok(w.agent.epoch > epoch);
    const epochs = w.agent.applied.map((d) => d.state.epoch);
    assert.deepEqual(epochs, [...new Set(epochs)].sort((a, b) => a - b));
  }));

  test('freeze: at once, by name, and it outlives kills of everything', { timeout: 180000 }, () => withSmall('fsfreeze', async (stack, w, nc) => {
    assert.notEqual((await stack.cli(['freeze', AGENT])).code, 0, 'who and why are asked for');
    const r = await stack.cli(['freeze', AGENT, '--by', 'eve', '--reason', 'blocks the whole office']);
    assert.equal(r.code, 0, r.out + r.err);
    await until('frozen', () => w.agent.state.posture === 'POSTURE_FROZEN');
    assert.equal(w.agent.state.automation, 'AUTOMATION_MODE_FROZEN');
    await until('people are told', () => w.mail.messages.some((m) => /CRITICAL/i.test(m.text) && /manual/i.test(m.text)), 20000);
    for (const victim of ['fallback', 'redis', 'nats']) {
      await stack.kill(victim);
      stack.run(victim);
    }
    await until('NATS is back', async () => (await last(nc, 'Directive', `redoubt.v1.directive.${AGENT}`).catch(() => null))?.state.posture === 'POSTURE_FROZEN', 20000);
    // A recovery of something else does not unfreeze.
    await w.primary.close();
    await pause(2000);
    await w.primary.open();
    await pause(2000);
    assert.equal(w.agent.state.posture, 'POSTURE_FROZEN');
    assert.notEqual((await stack.cli(['unfreeze', AGENT])).code, 0);
    // It has no questions in its settings, so somebody must vouch for it.
    assert.notEqual((await stack.cli(['unfreeze', AGENT, '--by', 'eve', '--reason', 'rule fixed'])).code, 0);
    const u = await stack.cli(['unfreeze', AGENT, '--by', 'eve', '--reason', 'rule fixed', '--without-selftest']);
    assert.equal(u.code, 0, u.out + u.err);
    await until('thawed', () => w.agent.state.automation === 'AUTOMATION_MODE_ENABLED');
    const records = await readAudit(nc);
    for (const action of [/unfreeze/, /freeze/])
      assert.ok(records.some((x) => action.test(x.action) && x.actor === 'eve' && x.audit_class === 'AUDIT_CLASS_STRICT'), `${action} by eve is in the trail`);
  }));

  test('the breaker obeys people, and says who it was', { timeout: 120000 }, () => withSmall('fsforce', async (stack, w, nc) => {
    assert.notEqual((await stack.cli(['breaker', 'open', PRIMARY])).code, 0);
    const r = await stack.cli(['breaker', 'open', PRIMARY, '--by', 'eve', '--reason', 'model drift']);
    assert.equal(r.code, 0, r.out + r.err);
    await until('moved to the backup', () => w.agent.state.llm_target === 'llm.sim.backup');
    assert.equal((await last(nc, 'BreakerChanged', `redoubt.v1.breaker.${PRIMARY}`)).forced_by, 'eve');
    await pause(3000);
    assert.equal(w.agent.state.llm_target, 'llm.sim.backup', 'it stays');
    assert.equal((await stack.cli(['breaker', 'reset', PRIMARY, '--by', 'eve', '--reason', 'fine again'])).code, 0);
    await until('back', () => w.agent.state.llm_target === PRIMARY, 40000);
  }));
});
