// upgrade.test.mjs - versions meet: the previous commit's consumers, its services beside the present ones, and what release 0.1.0 left behind.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Agent, readAudit, readStream } from './lib/agent.mjs';
import * as present from './lib/contract.mjs';
import * as golden from './lib/golden.mjs';
import { previousPrograms, previousTree } from './lib/previous.mjs';
import { AGENT, BACKUP, PRIMARY, withSmall } from './lib/small.mjs';
import { runStory } from './lib/story.mjs';
import { until } from './lib/wait.mjs';

// Of everybody: those that are a service's own queue (REDOUBT_ACTIONS) take no other reader.
const STREAMS = ['REDOUBT_STATE', 'REDOUBT_EVENTS', 'REDOUBT_ALERTS', 'REDOUBT_AUDIT', 'REDOUBT_PARCELS', 'REDOUBT_DEAD'];
const bin = process.env.REDOUBT_BIN ?? path.join(present.top, 'build/bin');
process.env.REDOUBT_BIN = bin; // also for the previous commit's own library

// ---- the previous commit's consumers ----

// What an old reader makes of a message is what a new one makes of it, as far as the old one knows it: numbers have kept their meaning.
function sameMeaning(old, now, where) {
  if (Array.isArray(old)) {
    assert.equal(old.length, now?.length, `${where}: as many`);
    old.forEach((x, i) => sameMeaning(x, now[i], `${where}[${i}]`));
  } else if (old && typeof old === 'object' && !ArrayBuffer.isView(old)) {
    for (const [k, v] of Object.entries(old)) {
      assert.ok(now && k in now, `${where}.${k} is not there any more`);
      sameMeaning(v, now[k], `${where}.${k}`);
    }
  } else assert.deepEqual(old, now, where);
}

const tree = previousTree();
test("the previous commit's agent and consumers live with the present services", { timeout: 400000, skip: tree.why }, async () => {
  const at = (name) => pathToFileURL(path.join(tree.dir, 'tests/e2e/lib', name)).href;
  const old = { ...await import(at('contract.mjs')), ...await import(at('agent.mjs')), ...await import(at('story.mjs')) };
  assert.notEqual(old.decode, present.decode, 'its own library');
  const live = [];
  let seen = 0;
  // Its story, agent, and checks: all from its own tree.
  await old.runStory('upgrade-consumers', {
    patient: true,
    async disturb(stack, _w, step) {
      if (step === -1) (await stack.nats('consumer')).subscribe('redoubt.v1.>', { callback: (_e, m) => live.push({ subject: m.subject, type: m.headers?.get('ce-type'), data: m.data }) });
    },
    async check(_stack, w, nc) {
      const kept = [];
      for (const s of STREAMS) kept.push(...await old.readStream(nc, s));
      const kinds = new Map();
      for (const m of [...live, ...kept]) {
        const name = m.type?.replace('redoubt.v1.', '');
        if (!name) continue; // requests and reports carry no type
        let type;
        try {
          type = old.type(name);
        } catch {
          continue; // a message that it does not know, on a subject of its own
        }
        assert.ok(type.verify(type.toObject(type.decode(m.data))) === null, `${m.subject}: it is a ${name} to it`);
        sameMeaning(old.decode(name, m.data), present.decode(name, m.data), `${m.subject} (${name})`);
        kinds.set(name, (kinds.get(name) ?? 0) + 1);
        seen++;
      }
      for (const k of ['HealthChanged', 'BreakerChanged', 'Directive', 'DirectiveAck', 'Alert', 'DeliveryReceipt', 'AuditRecord', 'ProblemChanged'])
        assert.ok(kinds.has(k), `${k} among ${[...kinds.keys()]}`);
      // The present, as it replays it, is where the agent is.
      const state = await old.readStream(nc, 'REDOUBT_STATE', `redoubt.v1.directive.${w.agent.name}`);
      assert.equal(state.length, 1);
      assert.equal(old.decode('Directive', state[0].data).state.epoch, w.agent.epoch);
    },
  });
  console.log(`the consumers of ${tree.commit.slice(0, 8)} read ${seen} messages, ${live.length} of them live`);
});

// ---- the previous commit's services ----

async function swap(stack, name, programs, signal) {
  const end = await stack.kill(name, signal);
  if (signal === 'SIGTERM') assert.equal(end.code, 0, `${name} drains for the other version: ${JSON.stringify(end)}`);
  stack.defineService(name, name, programs);
  stack.run(name);
}

const previous = previousPrograms();
const REPLICAS = ['health', 'breaker', 'fallback', 'guard', 'alert'];

test('upgraded in the middle of an outage, mixed, and back again', { timeout: 500000, skip: previous.why }, async () => {
  await runStory('upgrade-services', {
    options: { programs: previous.bin },
    patient: true,
    async disturb(stack, _w, step) {
      if (step === 0) { // killed at the worst moment; the others stay as they are
        for (const s of ['breaker', 'audit', 'guard']) await swap(stack, s, bin, 'SIGKILL');
      } else if (step === 1) { // an orderly upgrade, and replicas of the version before beside it
        for (const s of REPLICAS) {
          stack.defineService(`${s}-before`, s, previous.bin);
          stack.run(`${s}-before`);
        }
        for (const s of ['health', 'fallback', 'alert']) await swap(stack, s, bin, 'SIGTERM');
      } else if (step === 2) { // somebody goes back, while it recovers
        for (const s of ['fallback', 'alert', 'audit', 'breaker']) await swap(stack, s, previous.bin, 'SIGKILL');
        for (const s of REPLICAS) assert.equal((await stack.kill(`${s}-before`, 'SIGTERM')).code, 0, s);
        for (const s of ['fallback', 'alert', 'audit', 'breaker']) await swap(stack, s, bin, 'SIGTERM');
      }
    },
  });
});

// ---- what a release left ----

const releases = fs.readdirSync(path.join(present.top, 'tests/e2e/golden')).filter((f) => f.endsWith('.json.gz'));
assert.ok(releases.length > 0);
for (const file of releases) {
  test(`what ${file.replace('.json.gz', '')} left in the middle of an outage is taken up`, { timeout: 300000 }, async () => {
    const g = golden.read(path.join(present.top, 'tests/e2e/golden', file));
    const was = new Map();
    const info = async (nc, s) => (await nc.jetstreamManager()).streams.info(s);
    const before = async (stack) => {
      const nc = await stack.nats('loader');
      await golden.loadStreams(nc, g.streams);
      await golden.loadRedis(await stack.redis(), g.redis);
      golden.loadFiles(path.join(stack.dir, 'data'), g.files);
      for (const s of g.streams) was.set(s.config.name, { ...await info(nc, s.config.name), consumers: s.consumers });
    };
    await withSmall('golden', async (stack, w, nc) => {
      const stood = present.decode('Directive', Buffer.from(g.streams.find((s) => s.config.name === 'REDOUBT_STATE').messages
        .filter((m) => m.subject === `redoubt.v1.directive.${AGENT}`).at(-1).data, 'base64')).state;
      assert.equal(stood.posture, 'POSTURE_SECURITY_FALLBACK');
      const agent = new Agent(nc, AGENT, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url });
      agent.start();
      try {
        // It goes on from the epoch where it was: nothing has begun anew.
        await until('a directive', () => agent.applied.length > 0);
        assert.ok(agent.applied[0].state.epoch >= stood.epoch, `${agent.applied[0].state.epoch} after ${stood.epoch}`);
        await until(() => `the way back; ${JSON.stringify(agent.state)}`, () => agent.state.posture === 'POSTURE_NORMAL' && agent.state.llm_target === PRIMARY, 60000);
        // The alert that nobody had told, and what was only in the outboxes.
        await until('the alert that was left', async () => (await readStream(nc, 'REDOUBT_EVENTS', 'redoubt.v1.delivery.>')).map((m) => present.decode('DeliveryReceipt', m.data))
          .some((r) => r.alert_id === g.untold && r.status === 'DELIVERY_STATUS_ACCEPTED'), 60000);
        const left = g.files.filter((f) => /outbox-/.test(f.path)).map((f) => Buffer.from(f.data, 'base64').toString('latin1'));
        const ids = new Set(left.flatMap((t) => [...t.matchAll(/redoubt\.v1\.audit\.\w+\0([\w/-]+)\0/g)].map((m) => m[1])));
        assert.ok(ids.size > 0, 'there is something in the outboxes');
        await until(() => `what was in the outboxes on its stream`, async () => {
          const there = new Set([...(await readStream(nc, 'REDOUBT_AUDIT')).map((m) => m.id), ...(await readAudit(nc)).map((r) => r.id)]);
          return [...ids].every((id) => there.has(id));
        }, 60000);
        // Every record of then is in the trail, in front of those of now, and the trail is whole.
        const trail = () => Buffer.concat(fs.readdirSync(path.join(stack.dir, 'data/audit/0')).filter((f) => f.endsWith('.seg')).sort()
          .map((f) => fs.readFileSync(path.join(stack.dir, 'data/audit/0', f))));
        const start = Buffer.concat(g.files.filter((f) => /^audit\/0\/.*\.seg$/.test(f.path)).map((f) => Buffer.from(f.data, 'base64')));
        const end = start.findLastIndex((b) => b !== 0) + 1; // room behind it is made in advance
        assert.ok(trail().subarray(0, end).equals(start.subarray(0, end)), 'the trail goes on where it ended');
        await until('the new records in the trail', async () => { const t = trail(); return (await readAudit(nc)).every((r) => t.includes(Buffer.from(r.id))); }, 60000);
        // Migrated, never made anew: the same streams and consumers, and nothing of theirs has gone.
        for (const [name, s] of was) {
          const now = await info(nc, name);
          assert.equal(now.created, s.created, `${name} is the same stream`);
          assert.ok(now.state.last_seq >= s.state.last_seq && (s.config.max_msgs_per_subject === 1 || s.config.retention === 'workqueue' || now.state.first_seq === s.state.first_seq), `${name} has what it had`);
          for (const subject of s.config.subjects) assert.ok(now.config.subjects.includes(subject) || now.config.subjects.some((x) => x.endsWith('>') && subject.startsWith(x.slice(0, -1))), `${name}: ${subject}`);
          for (const c of s.consumers) {
            const i = await (await nc.jetstreamManager()).consumers.info(name, c.config.durable_name);
            assert.ok(i.ack_floor.stream_seq >= s.messages || i.num_pending === 0 || i.delivered.stream_seq > 0, `${c.config.durable_name} goes on`);
          }
        }
      } finally {
        await agent.stop();
      }
      const ends = await stack.stop();
      for (const [service, end] of Object.entries(ends)) assert.equal(end.code, 0, `${service}: ${JSON.stringify(end)}`);
      const verified = await stack.cli(['audit', 'verify', path.join(stack.dir, 'data/audit/0')]);
      assert.equal(verified.code, 0, `${verified.out}${verified.err}`);
    }, { agent: false, patient: true, options: { before } });
  });
}

// ---- what a later version will leave ----

test('streams of a newer version are left alone, and that is said', { timeout: 200000 }, async () => {
  const mark = 'redoubt format 2; of a later release';
  const before = async (stack) => {
    const jsm = await (await stack.nats('loader')).jetstreamManager();
    await jsm.streams.add({ name: 'REDOUBT_STATE', subjects: ['redoubt.v1.directive.>'], max_msgs_per_subject: 1, description: mark });
  };
  await withSmall('newer', async (stack, _w, nc) => {
    for (const s of ['fallback', 'breaker']) await until(`${s} to say so`, () => /REDOUBT_STATE.*newer version of Redoubt/.test(stack.log(s)));
    const jsm = await nc.jetstreamManager();
    const now = await jsm.streams.info('REDOUBT_STATE');
    assert.deepEqual(now.config.subjects, ['redoubt.v1.directive.>'], 'untouched');
    assert.equal(now.config.description, mark);
    assert.equal(now.state.messages, 0, 'nothing is said on it');
    // Once it is theirs again, they go on by themselves.
    await jsm.streams.update('REDOUBT_STATE', { description: 'redoubt format 1' });
    await until('the first directive', async () => (await jsm.streams.info('REDOUBT_STATE', { subjects_filter: `redoubt.v1.directive.${AGENT}` })).state.messages > 0, 30000);
  }, { agent: false, options: { before, services: ['fallback', 'breaker', 'health'] } });
});
