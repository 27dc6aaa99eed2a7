// rollback-town.test.mjs - rollbacks under load, with kill -9 of everything at every step: on a real Docker engine, HAProxy, NATS, Redis and restic.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Engine, noEngine } from './lib/engine.mjs';
import { Town } from './lib/rollback.mjs';
import { pause } from './lib/wait.mjs';

const CHUNK = Number(process.env.REDOUBT_TOWNS ?? 4);
const STEPS = [100, 50, 25, 10, 0];
// Without an engine the same is played with plain processes behind the exec executor, and what that leaves out is said.
const lacking = process.env.REDOUBT_TOWN === 'processes' ? 'REDOUBT_TOWN=processes' : noEngine();
const where = lacking ? 'processes' : 'docker';
const ENDS = ['ROLLBACK_PHASE_DONE', 'ROLLBACK_PHASE_ABORTED', 'ROLLBACK_PHASE_REFUSED'];
const ended = (s) => ENDS.includes(s.phase);
const short = (x) => x.replace(/^ROLLBACK_(PHASE|HOLD|STAGE)_/, '');

let engine = null;
before(async () => {
  if (lacking) return;
  engine = new Engine();
  await engine.start();
  await engine.images({ v1: ['--data', '/data', '--schema', '1'], v2: ['--data', '/data', '--schema', '1'] });
});
after(() => engine?.stop());

async function inTown(name, options, body) {
  const town = new Town(engine, name, options);
  try {
    await town.open();
    return await body(town);
  } catch (e) {
    e.message += `\n${town.tails(25)}`;
    throw e;
  } finally {
    await town.close();
  }
}

// One version runs, whole, and nothing else is left; all the traffic is with it.
async function assertAlone(town, tag) {
  let found, servers;
  const alone = () => {
    const serving = servers.filter((s) => !s.off && s.weight > 0);
    return found.length === town.instances && found.every((c) => c.tag === tag && c.running) && serving.length === town.instances &&
      serving.every((s) => found.some((c) => c.address === s.address));
  };
  for (const end = Date.now() + 10000; ; await pause(50)) {
    [found, servers] = [await town.place.all(), await town.servers()];
    if (alone()) return;
    if (Date.now() > end) assert.fail(`${tag} alone was expected: ${JSON.stringify(found)} ${JSON.stringify(servers.filter((s) => !s.off))}`);
  }
}

test('a Docker engine', { skip: lacking }, async () => assert.equal((await engine.call('GET', '/_ping')).status, 200));

test(`a gradual rollback under load (${where})`, { timeout: 180000 }, () => inTown('gradual', { instances: 2, step_ms: 1500, rps: 80, health_ms: 1000 }, async (town) => {
  const began = Date.now();
  const r = await town.order('start', { job_id: 'gradual', to_version: 'v1' });
  assert.equal(r.status, 'COMMAND_STATUS_OK', r.message);
  const end = await town.wait('the end', ended, 120000);
  assert.equal(end.phase, 'ROLLBACK_PHASE_DONE', town.text());
  await assertAlone(town, 'v1');
  await town.load.stop();

  const seen = town.states.filter((s) => s.job_id === 'gradual');
  const rows = STEPS.map((percent, i) => {
    const from = seen.find((s) => s.phase === 'ROLLBACK_PHASE_SHIFT' && s.stage === 'ROLLBACK_STAGE_OBSERVE' && s.step === i);
    const to = seen.find((s) => s.epoch > from.epoch && (s.step !== i || s.stage !== 'ROLLBACK_STAGE_OBSERVE'));
    const part = town.load.between(from.seen + 50, to.seen - 50);
    return { percent, requests: part.n, share: Math.round(10 * part.share('v2')) / 10, failed: part.versions.failed ?? 0, overhead_ms: to.overhead_ms };
  });
  console.table(rows);
  console.log(`${town.load.seen.length} requests, ${town.load.failures().length} failed; ${town.looks} looks; ${Date.now() - began} ms`);
  assert.deepEqual(town.load.failures(), [], 'no request fails');
  for (const row of rows) {
    assert.ok(Math.abs(row.share - row.percent) <= 5, `${row.share} % at the step of ${row.percent} %`);
    assert.ok(row.overhead_ms < 5000, `${row.overhead_ms} ms between two steps`);
  }
  assert.deepEqual(town.low, [], 'never less capacity than needed');
  const data = town.snapshotHolds(end.snapshot);
  // Without a job: a proxy that has forgotten everything is right again within seconds.
  const forgotten = Date.now();
  await town.forgetfulHaproxy();
  await assertAlone(town, 'v1');
  console.log(`HAProxy has forgotten everything: right again after ${Date.now() - forgotten} ms`);
  assert.ok(data.same && data.now > data.bytes, `the snapshot restores to the same bytes, and learning has gone on: ${JSON.stringify(data)}`);
}));

// ---- kills ----

const at = (phase, stage, step) => (s) => s.phase === `ROLLBACK_PHASE_${phase}` && (!stage || s.stage === `ROLLBACK_STAGE_${stage}`) && (step === undefined || s.step === step);
const MOMENTS = {
  snapshot: (s) => s.phase === 'ROLLBACK_PHASE_SNAPSHOT' && s.op === 'ROLLBACK_OP_SNAPSHOT',
  'target up': (s) => s.phase === 'ROLLBACK_PHASE_TARGET_UP' && s.op === 'ROLLBACK_OP_UP',
  'step 100': at('SHIFT', 'OBSERVE', 0),
  'to 50': (s) => s.op === 'ROLLBACK_OP_WEIGHT' && s.step === 1,
  'step 50': at('SHIFT', 'OBSERVE', 1),
  'to 25': (s) => s.op === 'ROLLBACK_OP_WEIGHT' && s.step === 2,
  'step 25': at('SHIFT', 'OBSERVE', 2),
  'step 10': at('SHIFT', 'OBSERVE', 3),
  'to 0': (s) => s.op === 'ROLLBACK_OP_WEIGHT' && s.step === 4,
  'step 0': at('SHIFT', 'OBSERVE', 4),
  drain: at('DRAIN'),
  stop: (s) => s.op === 'ROLLBACK_OP_STOP',
  verify: at('VERIFY', 'OBSERVE'),
};
const POINTS = Object.entries({
  service: ['snapshot', 'target up', 'step 100', 'to 50', 'step 25', 'step 10', 'to 0', 'drain', 'stop', 'verify'],
  target: ['step 100', 'step 50', 'step 25', 'step 10', 'step 0', 'verify'],
  haproxy: ['step 100', 'to 50', 'step 50', 'step 10', 'step 0', 'verify'],
  nats: ['snapshot', 'step 100', 'to 50', 'step 10', 'step 0'],
  redis: ['snapshot', 'to 50', 'step 25', 'step 0', 'verify'],
}).flatMap(([victim, moments]) => moments.map((moment) => ({ victim, moment })))
  .filter((p) => new RegExp(process.env.REDOUBT_POINTS ?? '').test(`${p.victim} at ${p.moment}`));

// A rollback to the version that does not run now, with one kill; what holds is gone on with as a person would.
async function rollBack(town, { victim, moment }, n) {
  const current = town.state().versions.find((v) => v.id === town.state().current_version).name;
  const target = current === 'v1' ? 'v2' : 'v1', job = `kill-${n}`, began = Date.now();
  let struck = null, hit;
  const strike = new Promise((done) => { hit = done; });
  const watcher = (s) => {
    if (struck || s.job_id !== job || !MOMENTS[moment](s)) return;
    struck = Date.now();
    if (victim === 'target') town.excused.push([struck - 100, Infinity]); // until the end: the rest of the matrix sees to what is not killed
    hit(town.strike(victim, target));
  };
  town.watchers.add(watcher);
  const r = await town.order('start', { job_id: job, to_version: target, force: true });
  assert.equal(r.status, 'COMMAND_STATUS_OK', r.message);
  const holds = [];
  for (;;) {
    const s = await town.wait(`the end of ${victim} at ${moment}`, (x) => x.job_id === job && (ended(x) || x.phase === 'ROLLBACK_PHASE_HOLD'), 90000);
    if (ended(s)) break;
    assert.ok(s.reason.length > 10 && s.hold !== 'ROLLBACK_HOLD_UNSPECIFIED', 'a hold says why');
    holds.push(`${short(s.hold)}: ${s.reason}`);
    assert.ok(struck, `it holds before anything was killed: ${holds[0]}`);
    await strike;
    assert.ok(holds.length < 4, `it holds again and again: ${holds.join('; ')}`);
    const verb = victim === 'target' || holds.length > 1 ? 'abort' : 'resume';
    await town.order(verb, { job_id: job });
    await town.wait(`${verb} to be taken`, (x) => x.job_id === job && (x.phase !== 'ROLLBACK_PHASE_HOLD' || x.epoch > s.epoch + 1), 30000);
  }
  town.watchers.delete(watcher);
  assert.ok(struck, `the moment never came; ${town.text()}`);
  await strike;
  const end = town.state(), alone = end.phase === 'ROLLBACK_PHASE_DONE' ? target : current;
  await assertAlone(town, alone);
  if (victim === 'target') town.excused[town.excused.length - 1][1] = Date.now() + 500;
  const failed = town.load.failures().filter((f) => f.at >= began);
  const row = { victim, moment, ended: short(end.phase), held: holds.join('; ').slice(0, 90), 'ms': end.ended_unix_ms - end.started_unix_ms, requests: town.load.seen.filter((x) => x.at >= began).length, failed: failed.length };
  assert.notEqual(end.phase, 'ROLLBACK_PHASE_REFUSED', end.reason);
  if (victim !== 'target' && victim !== 'haproxy') assert.deepEqual(failed, [], 'no request fails');
  const late = failed.filter((f) => f.at < struck - 1000 || f.at > struck + 10000);
  assert.deepEqual(late, [], 'requests fail only where something died');
  assert.deepEqual(town.low, [], 'never less capacity than needed');
  assert.equal(town.states.filter((s) => s.job_id === job && s.phase === end.phase).length > 0, true);
  return row;
}

describe(`kill -9 at every step (${where})`, { timeout: 900000 }, () => {
  const table = [];
  const left = POINTS.map((p, n) => ({ ...p, n }));
  after(() => { console.table(table); });

  test(`${POINTS.length} points`, { timeout: 800000 }, async () => {
    const wrong = [];
    const one = async (lane) => {
      while (left.length) {
        // A town lives as long as all is well in it: what a point leaves behind would hurt the next.
        await inTown(`kill-${lane}`, { step_ms: 450 }, async (town) => {
          while (left.length) {
            const p = left.shift();
            try {
              const row = await rollBack(town, p, p.n);
              table.push(row);
              console.log(JSON.stringify(row)); // now: whoever stops this early has seen so much
            } catch (e) {
              e.message = `${p.victim} at ${p.moment}: ${e.message}`;
              throw e;
            }
          }
        }).catch((e) => wrong.push(e));
      }
    };
    await Promise.all(Array.from({ length: CHUNK }, (_, lane) => one(lane)));
    for (const e of wrong) console.error(e.message);
    assert.deepEqual(wrong.map((e) => e.message.split('\n')[0]), []);
    assert.equal(table.length, POINTS.length);
  });
});
