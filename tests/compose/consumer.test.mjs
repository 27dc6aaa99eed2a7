// consumer.test.mjs - consumers of a user's own, in an overlay, beside the suite: with their own credentials, the present and every change.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { connect } from 'nats';
import { changes } from '../e2e/lib/consumers.mjs';
import { AIRGAP, command, noEngine, slow, tag, top, until, withProject } from './lib/compose.mjs';

const skip = noEngine;
const BASE = process.env.REDOUBT_BASE ?? 'redoubt/base:trixie';

// The images, by their own Dockerfiles; packages of npm are those that the tests have.
async function images() {
  const context = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-consumers-'));
  try {
    for (const part of ['proto', 'deploy/deps', 'deploy/examples/consumer-js', 'deploy/examples/consumer-c']) fs.cpSync(path.join(top, part), path.join(context, part), { recursive: true });
    const have = (p) => path.join(top, 'tests/node_modules', p);
    const want = ['nats', 'protobufjs'], taken = new Set();
    for (let p; (p = want.pop());) {
      if (taken.has(p) || !fs.existsSync(have(p))) continue;
      taken.add(p);
      fs.cpSync(have(p), path.join(context, 'deploy/examples/consumer-js/node_modules', p), { recursive: true });
      want.push(...Object.keys(JSON.parse(fs.readFileSync(path.join(have(p), 'package.json'))).dependencies ?? {}));
    }
    for (const name of ['consumer-js', 'consumer-c']) {
      const r = await command('docker', ['build', '--network=host', '-q', '--build-arg', `BASE=${BASE}`, '-f', path.join(context, 'deploy/examples', name, 'Dockerfile'), '-t', `redoubt/${name}:${tag}`, context],
        { timeout_ms: 400000 });
      assert.equal(r.code, 0, `${name}: ${r.out}${r.err}`);
    }
  } finally {
    fs.rmSync(context, { recursive: true, force: true });
  }
}

test('consumers beside the suite', { skip, timeout: 600000 * slow }, async () => {
  await images();
  await withProject('consumer', { files: [...AIRGAP, 'deploy/compose/consumer.yml'] }, async (p) => {
    await p.up();
    const BOTH = ['consumer-js', 'consumer-c'];
    // What a consumer has told since its container started last: one process, one present.
    const told = async (service) => {
      const c = await p.inspect(service);
      const r = await command('docker', ['logs', '--since', c.State.StartedAt, c.Id]);
      return { list: changes(r.out.slice(0, r.out.lastIndexOf('\n') + 1)), said: r.err };
    };
    let ops = await p.nats(), jsm = await ops.jetstreamManager();
    const last = async (subject) => (await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: subject }));
    const up = (what, holds) => Promise.all(BOTH.map((s) => {
      let t;
      return until(() => `${s}: ${what}\n${t?.said}${t?.list.slice(-3).map((m) => JSON.stringify(m)).join('\n')}`, async () => holds(t = await told(s), s), 60000);
    }));
    const breaker = 'redoubt.v1.breaker.llm.openai.gpt-4o';
    const order = async (verb) => {
      const r = await p.run('breaker', verb, 'llm.openai.gpt-4o', '--by', 'test', '--reason', 'to see it told');
      assert.equal(r.code, 0, `${r.out}${r.err}`);
      return (await last(breaker)).seq;
    };
    await up('the present', (t) => /this is the present of REDOUBT_STATE/.test(t.said) && t.list.some((m) => m.type === 'AuditCheckpoint'));

    // A change, told by both with what it says; and one more, while NATS is made to crash.
    const first = await order('open');
    await up('the breaker forced open', (t) => t.list.some((m) => m.seq === first && m.subject === breaker && m.message.state === 'BREAKER_STATE_FORCED_OPEN'));
    const before = (await p.inspect('nats')).State.StartedAt;
    await p.crash('nats');
    await until('NATS to be back', async () => (await p.inspect('nats')).State.StartedAt !== before);
    await p.healthy();
    ops = await p.nats(); // it may be published on another port now
    jsm = await ops.jetstreamManager();
    const second = await order('reset');
    await up('the change after a crash of NATS', (t) => t.list.some((m) => m.seq >= second && m.subject === breaker));
    // One that is killed and started again has the whole present once more: nothing depends on what it was.
    await p.kill('consumer-c');
    await until('it to end', async () => !(await p.inspect('consumer-c')).State.Running);
    await p.start('consumer-c');
    await up('the present again', (t) => /this is the present/.test(t.said) && t.list.some((m) => m.seq >= second && m.subject === breaker));
    for (const s of BOTH) {
      const { list } = await told(s);
      const seqs = list.map((m) => m.seq);
      assert.deepEqual(seqs, [...new Set(seqs)].sort((a, b) => a - b), `${s}: in order, nothing twice`);
      const ids = list.map((m) => m.id);
      assert.deepEqual(ids.filter((id, i) => ids.indexOf(id) !== i), [], `${s}: nothing twice`);
      assert.ok(list.every((m) => m.message.undecoded === undefined), `${s}: every type is known: ${JSON.stringify(list.find((m) => m.message.undecoded !== undefined))}`);
      const c = await p.inspect(s);
      assert.equal(c.RestartCount, 0, `${s} has not ended by itself`);
      assert.ok(c.Config.User === '10001:10001' && c.HostConfig.ReadonlyRootfs && c.HostConfig.CapDrop.includes('ALL'));
    }

    // With a consumer's password nothing can be said, and with none nothing heard.
    const siem = await connect({ servers: await p.published('nats', 4222), user: 'siem', pass: (await p.volumeFile('secret-siem', 'nats')).trim(), ignoreClusterUpdates: true });
    p.clients.push(() => siem.close());
    const refused = [];
    (async () => { for await (const s of siem.status()) if (s.type === 'error') refused.push(s.permissionContext?.subject); })().catch(() => {});
    const heard = [];
    ops.subscribe('redoubt.v1.>', { callback: (_e, m) => heard.push(m.subject) });
    await ops.flush();
    const forbidden = ['redoubt.v1.report.x', 'redoubt.v1.directive.x', 'redoubt.v1.cmd.fallback.unfreeze', 'redoubt.v1.audit.x'];
    for (const s of forbidden) siem.publish(s, 'x');
    siem.publish('$JS.API.DIRECT.GET.REDOUBT_STATE', JSON.stringify({ seq: 1, next_by_subj: 'redoubt.v1.>' }), { reply: 'redoubt.v1.audit.sent-on' });
    await siem.flush();
    await until('each to be refused', () => forbidden.every((s) => refused.includes(s)));
    await ops.flush();
    assert.deepEqual(heard.filter((s) => forbidden.includes(s) || s === 'redoubt.v1.audit.sent-on'), []);
    await assert.rejects(connect({ servers: await p.published('nats', 4222), maxReconnectAttempts: 0, ignoreClusterUpdates: true }), /authorization|authentication/i);

    // And in all of this nobody of the suite was refused anything.
    const lines = (await p.logs('nats')).split('\n').filter((l) => /Violation/.test(l) && !/User "siem"|User "operator"/.test(l) && !/authentication error - No/.test(l));
    assert.deepEqual(lines, [], 'the suite has the rights that it needs');
    for (const s of ['health', 'breaker', 'fallback', 'guard', 'alert', 'rollback', 'continuity']) assert.doesNotMatch(await p.logs(s), /NOPERM|NOAUTH|WRONGPASS|Not Permitted/, s);
  });
});
