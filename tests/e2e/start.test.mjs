// start.test.mjs - start in any order, discovery by NATS's own protocol, the operator's command against a real suite.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask } from './lib/micro.mjs';
import { AGENT, BACKUP, PRIMARY, last, withSmall } from './lib/small.mjs';
import { SERVICES } from './lib/stack.mjs';
import { pause, until } from './lib/wait.mjs';

describe('start', { concurrency: 3 }, () => {
  test('services first, Redis and NATS seconds later', { timeout: 120000 }, () => withSmall('late', async (stack, w) => {
    await stack.kill('nats');
    await stack.kill('redis');
    for (const s of SERVICES) stack.run(s);
    await pause(2000);
    for (const s of SERVICES) assert.ok(stack.running(s), `${s} waits`);
    stack.run('redis');
    await pause(1000);
    stack.run('nats');
    const { Agent } = await import('./lib/agent.mjs');
    const nc = await stack.nats('agent');
    w.agent = new Agent(nc, AGENT, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url });
    w.agent.start();
    await until('the first directive', () => w.agent.state?.posture === 'POSTURE_NORMAL', 30000);
  }, { agent: false, options: { services: [] } }));

  test('every service answers $SRV.PING, INFO and STATS', { timeout: 60000 }, () => withSmall('micro', async (_stack, _w, nc) => {
    for (const verb of ['PING', 'INFO', 'STATS']) {
      const names = (await ask(nc, `$SRV.${verb}`)).map((a) => a.name).sort();
      assert.deepEqual(names, SERVICES.map((s) => `redoubt-${s}`).sort());
    }
    const [info] = await ask(nc, '$SRV.INFO.redoubt-breaker');
    assert.equal(info.type, 'io.nats.micro.v1.info_response');
    assert.ok(info.endpoints.length > 0 || info.subjects?.length > 0);
  }));

  test("the operator's command", { timeout: 120000 }, () => withSmall('cli', async (stack, w, nc) => {
    await until('status is all well', async () => (await stack.cli(['status'])).code === 0, 30000);
    const status = JSON.parse((await stack.cli(['status', '--json'])).out);
    assert.match(JSON.stringify(status), /mcp-security-agent/);
    // One alone cannot open it: it takes two.
    for (const r of ['gateway-1', 'gateway-2']) assert.equal((await stack.cli(['report', BACKUP, 'error', '--reporter', r, '--count', '15'])).code, 0);
    await until('the reported backup opens', async () => (await last(nc, 'BreakerChanged', `redoubt.v1.breaker.${BACKUP}`))?.state === 'BREAKER_STATE_OPEN');
    assert.match((await stack.cli(['breaker', 'show', BACKUP])).out, /OPEN|PROBATION/);
    assert.equal((await stack.cli(['breaker', 'show', 'llm.no.such'])).code === 0, false);
    assert.equal((await stack.cli(['nonsense'])).code, 2);
    assert.equal((await stack.cli(['config', 'check', stack.config])).code, 0);
    assert.doesNotMatch((await stack.cli(['config', 'show', stack.config])).out, /hunter2/);
    await stack.kill('nats');
    assert.equal((await stack.cli(['status'])).code, 3, 'unreachable has its own exit code');
  }));
});
