// bad-input.test.mjs - nonsense from every side: counted, logged, never a crash, never a change of state.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { ceHeaders, decode, encode, top } from './lib/contract.mjs';
import { metric } from './lib/micro.mjs';
import { AGENT, BACKUP, PRIMARY, last, withSmall } from './lib/small.mjs';
import { nonsense } from './lib/nonsense.mjs';
import { SERVICES } from './lib/stack.mjs';
import { pause, until } from './lib/wait.mjs';
import { LLM_FAILURES } from './lib/world.mjs';

const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');

describe('bad input', { concurrency: 3 }, () => {
  test('messages on every subject', { timeout: 120000 }, () => withSmall('badmsg', async (stack, w, nc) => {
    const subjects = {
      [`redoubt.v1.report.${PRIMARY}`]: ['breaker', 'OutcomeReport', { target: PRIMARY, reporter: 'x', outcome: 'OUTCOME_SUCCESS' }],
      [`redoubt.v1.heartbeat.${AGENT}`]: ['health', 'Heartbeat', { agent: AGENT, instance: 'x', interval_ms: 1000 }],
      [`redoubt.v1.ack.${AGENT}`]: ['fallback', 'DirectiveAck', { agent: AGENT, instance: 'x', epoch: 1, status: 'ACK_STATUS_APPLIED' }],
      'redoubt.v1.alert': ['alert', 'Alert', { id: 'x', dedup_key: 'x', severity: 'SEVERITY_INFO', summary: 'x', source: 'x' }],
      'redoubt.v1.audit.test': ['audit', 'AuditRecord', { id: 'x', action: 'x', service: 'test' }],
      'redoubt.v1.cmd.fallback.freeze': ['fallback', 'AgentCommand', { agent: AGENT, by: 'x', reason: 'x' }],
      [`redoubt.v1.action.${AGENT}`]: ['guard', 'ActionRequest', { agent: AGENT, epoch: 1, idempotency_key: 'x', action: 'block_ip' }],
      [`redoubt.v1.fence.${AGENT}`]: ['guard', 'Fence', { agent: AGENT, epoch: 1, id: 'x' }],
      [`redoubt.v1.monitor.${AGENT}`]: ['fallback', 'MonitorReport', { agent: AGENT, instance: 'x' }],
      'redoubt.v1.cmd.guard.queue_drop': ['guard', 'GuardCommand', { agent: AGENT, by: 'x', reason: 'x' }],
      'redoubt.v1.cmd.breaker.open': ['breaker', 'BreakerCommand', { target: PRIMARY, by: 'x', reason: 'x' }],
    };
    await until('the agent to call', () => w.primary.requests.length > 10);
    const pids = SERVICES.map((s) => stack.pid(s));
    const epoch = w.agent.epoch;
    const before = await last(nc, 'BreakerChanged', `redoubt.v1.breaker.${PRIMARY}`);
    const counted = {};
    for (const s of SERVICES) counted[s] = await metric(nc, s, 'redoubt_bad_input_total');
    for (const [subject, [, name, object]] of Object.entries(subjects))
      for (const [kind, bytes] of Object.entries(nonsense(Buffer.from(encode(name, object))))) {
        const reply = /\.(cmd|action)\./.test(subject) ? { reply: 'nobody.listens' } : {};
        nc.publish(subject, bytes, { headers: ceHeaders(name, `bad-${subject}-${kind}`, 'test'), ...reply });
      }
    // Right form, wrong place or wrong meaning.
    nc.publish('redoubt.v1.report.llm.sim.nowhere', encode('OutcomeReport', { target: 'llm.sim.nowhere', reporter: 'x', outcome: 'OUTCOME_ERROR' }));
    for (let i = 0; i < 20; i++) nc.publish(`redoubt.v1.report.${BACKUP}`, encode('OutcomeReport', { target: PRIMARY, reporter: 'x', outcome: 'OUTCOME_ERROR', data_path: true }));
    nc.publish(`redoubt.v1.ack.${AGENT}`, encode('DirectiveAck', { agent: 'somebody-else', instance: 'x', epoch: 99, status: 'ACK_STATUS_APPLIED' }), { headers: ceHeaders('DirectiveAck', 'bad-ack', 'test') });
    await nc.flush();
    // In front of the services; the last to arrive is answered by a living service.
    for (const s of SERVICES)
      await until(`${s} counts bad input`, async () => (await metric(nc, s, 'redoubt_bad_input_total')) > counted[s]);
    for (const s of SERVICES) assert.match(stack.log(s), /bad input|dead/, `${s} logs it`);
    assert.deepEqual(SERVICES.map((s) => stack.pid(s)), pids);
    for (const s of SERVICES) assert.ok(stack.running(s), `${s} lives`);
    assert.equal(w.agent.epoch, epoch, `no posture changed: ${JSON.stringify(w.agent.directives.slice(-3))}`);
    assert.deepEqual((await last(nc, 'BreakerChanged', `redoubt.v1.breaker.${PRIMARY}`))?.state, before?.state, 'no breaker moved');
    // Undecodable messages of a stream end as dead letters, with the reason.
    const jsm = await nc.jetstreamManager();
    await until('dead letters', async () => (await jsm.streams.info('REDOUBT_DEAD')).state.messages > 0);
  }, { patient: true }));

  test('wrong types in Redis', { timeout: 120000 }, () => withSmall('badredis', async (stack, w, nc) => {
    const redis = await stack.redis();
    const keys = [`redoubt:{b:${PRIMARY}}:doc`, `redoubt:{b:${PRIMARY}}:w`, `redoubt:{a:${AGENT}}:doc`, `redoubt:{h:${PRIMARY}}:doc`];
    const epoch = w.agent.epoch;
    for (const k of keys) await redis.multi().del(k).set(k, 'not a document').exec();
    await until('the agent to call on', () => w.primary.requests.length > 10);
    await pause(1000);
    for (const s of SERVICES) assert.ok(stack.running(s), `${s} lives`);
    // A document that is no message.
    for (const k of keys) await redis.multi().del(k).hSet(k, { doc: 'garbage', rev: '3', fence: '0', pending: '0' }).exec();
    for (const s of ['breaker', 'fallback', 'health']) { await stack.kill(s); stack.run(s); }
    await pause(2000);
    for (const s of SERVICES) assert.ok(stack.running(s), `${s} lives`);
    assert.ok(w.agent.epoch >= epoch, 'no epoch goes back');
    // Mended by hand, the suite works on.
    for (const k of keys) await redis.del(k);
    await w.primary.close();
    await until('the agent on its backup', () => w.agent.state.llm_target === BACKUP, 40000);
  }));

  test('nonsense from an LLM API', { timeout: 240000 }, () => withSmall('badllm', async (stack, w, nc) => {
    await until('the primary healthy', async () => (await last(nc, 'HealthChanged', `redoubt.v1.health.${PRIMARY}`))?.state === 'HEALTH_STATE_HEALTHY');
    const faults = {};
    for (const mode of LLM_FAILURES) {
      w.primary.mode = mode;
      const bad = await until(`the primary unhealthy with ${mode}`, async () => {
        const h = await last(nc, 'HealthChanged', `redoubt.v1.health.${PRIMARY}`);
        return ['HEALTH_STATE_UNHEALTHY', 'HEALTH_STATE_FLAPPING'].includes(h?.state) && h;
      }, 60000);
      faults[mode] = bad.evidence.map((e) => e.fault);
      w.primary.mode = 'ok';
      await until(`the primary healthy after ${mode}`, async () => (await last(nc, 'HealthChanged', `redoubt.v1.health.${PRIMARY}`))?.state === 'HEALTH_STATE_HEALTHY', 40000);
    }
    assert.ok(stack.running('health'));
    assert.ok(faults['429'].includes('PROBE_FAULT_QUOTA'), `${faults['429']}`);
    assert.ok(faults['503'].includes('PROBE_FAULT_OVERLOAD'), `${faults['503']}`);
    assert.ok(faults.hang.includes('PROBE_FAULT_TIMEOUT'), `${faults.hang}`);
    for (const mode of ['truncated', 'cut']) assert.ok(faults[mode].includes('PROBE_FAULT_CUT'), `${mode}: ${faults[mode]}`);
    for (const mode of ['schema', 'garbage', 'wrong-type']) assert.ok(faults[mode].includes('PROBE_FAULT_SCHEMA'), `${mode}: ${faults[mode]}`);
    assert.ok(faults.huge.includes('PROBE_FAULT_TOO_LARGE'), `${faults.huge}`);
  }, { patient: true }));

  test('wrong settings: one clear line each, exit 2, and a reload changes nothing', { timeout: 120000 }, () => withSmall('badconf', async (stack, w, nc) => {
    const good = fs.readFileSync(stack.config, 'utf8');
    const cases = [
      [good.replace('consecutive:', 'consecutiv:'), /:\d+: .*consecutiv.*consecutive/s],
      [good.replace('window: 10s', 'window: 10 parsecs'), /:\d+: .*window.*10 parsecs/s],
      [good.replace(`target: ${BACKUP}`, 'target: llm.sim.unknown'), /llm\.sim\.unknown/],
      ['nats: [', /:\d+/],
      ['', /nats|required|empty/],
    ];
    for (const [text, expected] of cases) {
      const file = path.join(stack.dir, 'bad.yaml');
      fs.writeFileSync(file, text);
      for (const s of SERVICES) {
        const r = spawnSync(path.join(bin, `redoubt-${s}`), ['-c', file], { encoding: 'utf8', timeout: 20000 });
        assert.equal(r.status, 2, `${s}: ${r.stderr}`);
        assert.match(r.stderr, expected);
      }
      const check = await stack.cli(['config', 'check', file]);
      assert.notEqual(check.code, 0);
    }
    assert.equal(spawnSync(path.join(bin, 'redoubt-breaker'), ['-c', '/nonexistent'], { encoding: 'utf8' }).status, 2);
    fs.writeFileSync(stack.config, cases[0][0]);
    for (const s of SERVICES) process.kill(stack.pid(s), 'SIGHUP');
    for (const s of SERVICES) await until(`${s} refuses the reload`, () => /not reloaded/.test(stack.log(s)));
    fs.writeFileSync(stack.config, good.replace('level: info', 'level: debug'));
    for (const s of SERVICES) process.kill(stack.pid(s), 'SIGHUP');
    for (const s of SERVICES) await until(`${s} reloads`, () => /settings reloaded/.test(stack.log(s)));
    await w.primary.close();
    await until('the agent on its backup', () => w.agent.state.llm_target === BACKUP);
    assert.ok(await last(nc, 'Directive', `redoubt.v1.directive.${AGENT}`));
  }));

  test('nonsense from Slack and mail', { timeout: 120000 }, () => withSmall('badchannel', async (stack, w, nc) => {
    w.mail.mode = 'busy';
    w.slack.mode = '404';
    const id = 'test-alert-1';
    const js = nc.jetstream();
    await js.publish('redoubt.v1.alert', encode('Alert', { id, dedup_key: 'k', severity: 'SEVERITY_HIGH', source: 'test', summary: 'nobody home', raised_unix_ms: Date.now() }), { headers: ceHeaders('Alert', id, 'test') });
    await until('the record', () => fs.existsSync(w.record) && fs.readFileSync(w.record, 'utf8').includes(id));
    w.slack.mode = 'ok';
    await until('Slack told at last', () => w.slack.messages.some((m) => JSON.stringify(m).includes('nobody home')), 60000);
    assert.ok(stack.running('alert'));
  }));
});
