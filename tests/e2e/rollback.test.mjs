// rollback.test.mjs - rollbacks by the operator's command on the real service, in a town whose instances, balancer and checks are this process: lib/rollback-town.mjs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { command } from './lib/rollback-docs.mjs';
import { NAME, withTown } from './lib/rollback-town.mjs';
import { until } from './lib/wait.mjs';

const WHO = ['--by', 'eve', '--reason', 'v2 is blind'];
const doc = async (cli) => JSON.parse((await cli('status', NAME, '--json')).out);
const ok = async (cli, ...args) => {
  const r = await cli(...args);
  assert.equal(r.code, 0, `rollback ${args.join(' ')}: ${r.out}${r.err}`);
  return r.out;
};
const phase = async (cli, name, limit) => until(() => `phase ${name}`, async () => (await doc(cli)).phase === name, limit);

test('there: planned, started, followed, and what is known of it afterwards', { timeout: 180000 }, async () => {
  await withTown('rb-there', async (stack, town, cli) => {
    assert.match(await ok(cli), /agent-1 +v2 +v1 /);
    const plan = await ok(cli, 'start', NAME, '--dry-run');
    assert.match(plan, /^ 1\. /);
    assert.match(plan, /This is the plan; nothing was done/);
    const steps = JSON.parse(await ok(cli, 'plan', NAME, '--json'));
    assert.deepEqual(steps.steps.map((s) => [s.weightPercent, s.needsReady]), [[100, 0], [50, 1], [25, 2], [10, 2], [0, 2]]);
    assert.deepEqual([steps.fromName, steps.toName, steps.instances], ['v2', 'v1', 2]);
    assert.deepEqual([town.orders.filter(([v]) => v !== 'keep' && v !== 'check'), town.moves], [[], []], 'a plan changes nothing');

    const watched = command(stack, ['rollback', 'start', NAME, ...WHO, '--follow', '--id', 'job-a']);
    await until('the shift', () => town.share[1] >= 50);
    await ok(cli, 'hold', NAME, ...WHO); // so that there is time to look
    const busy = await cli('start', NAME, ...WHO);
    assert.equal(busy.code, 4, 'one job at a time');
    await ok(cli, 'start', NAME, ...WHO, '--id', 'job-a'); // the same order again is no other job
    let suite;
    await until(() => `the suite's status: ${suite.out}${suite.err}`, async () => {
      suite = await stack.cli(['status', '--timeout', '20s']);
      return /deployment agent-1: rollback to v1 HOLDS/.test(suite.out);
    });
    assert.equal(suite.code, 1);
    await ok(cli, 'resume', NAME, ...WHO);
    const end = await watched.end;
    assert.equal(end.code, 0, end.err + end.out);
    for (const what of [/SHIFT, step 2 of 5/, /v2 50 %, v1 50 %/, /v2 10 %, v1 90 %/, /DRAIN/, /VERIFY/]) assert.match(end.out, what);
    assert.deepEqual(town.moves.map((m) => m.share.join('/')), ['50/50', '25/75', '10/90', '0/100']);
    assert.deepEqual(town.wrong, []);
    assert.deepEqual(town.instances.map((i) => [i.version, i.ready]), [['v1', true], ['v1', true]]);
    const up = town.orders.filter(([v]) => v === 'up');
    assert.ok(up.every((o) => o[1] === 'v1' && o[2] === '1' && o[3] === '2' && o[4] === 'job-a'), JSON.stringify(up));

    const versions = JSON.parse(await ok(cli, 'versions', NAME, '--json')).versions;
    assert.deepEqual(versions.map((v) => [v.name, v.current, v.state]).sort(), [['v1', true, 'VERIFIED'], ['v2', false, 'REJECTED']]);
    assert.match(await ok(cli, 'history', NAME), /v2 -> v1 +DONE .* eve +job-a +v2 is blind/);
    assert.equal(JSON.parse(await ok(cli, 'lineage', NAME, '--json')).lineage.length, 0);
    assert.equal((await cli('watch', NAME)).code, 0);
    assert.equal((await stack.cli(['tail', 'rollback', '-n', '1', '--replay'])).code, 0);
    await until('the trail', async () => {
      const r = await stack.cli(['audit', 'who', 'rolled-back', '--format', 'json']);
      return r.code === 0 && JSON.parse(r.out).acts.some((a) => a.action === 'rollback.start' && a.who === 'eve' && a.outcome === 'done' && a.on === NAME);
    });
    // Nothing is left to go back to: v2 was gone back from.
    assert.equal((await cli('start', NAME, ...WHO)).code, 4);
  });
});

test('held, resumed, aborted, hurried', { timeout: 180000 }, async () => {
  await withTown('rb-orders', async (stack, town, cli) => {
    for (const verb of ['hold', 'resume', 'abort', 'emergency']) assert.equal((await cli(verb, NAME, ...WHO)).code, 4, `${verb} without a job`);
    // A hold stays where it is; what is ordered twice was so already.
    await ok(cli, 'start', NAME, ...WHO);
    await until('half of the traffic', () => town.share[1] >= 50);
    await ok(cli, 'hold', NAME, ...WHO);
    await ok(cli, 'hold', NAME, ...WHO);
    const held = await cli('status', NAME);
    assert.equal(held.code, 1);
    assert.match(held.out, /HOLDS in SHIFT, step \d of 5: by order/);
    await until('what is in hand to end', async () => (await doc(cli)).op === 'UNSPECIFIED');
    const share = [...town.share];
    const watched = await cli('watch', NAME, '--no-wait');
    assert.equal(watched.code, 1);
    assert.deepEqual(town.share, share);
    await ok(cli, 'resume', NAME, ...WHO);
    await until('it to go on', () => town.share[1] > share[1]);
    // Aborted: mirrored steps, and at the end everything is with v2 as before.
    const follow = command(stack, ['rollback', 'abort', NAME, ...WHO, '--follow']);
    const end = await follow.end;
    assert.equal(end.code, 1);
    assert.match(end.err, /aborted: the former version carries the traffic/);
    assert.deepEqual(town.share, [100, 0]);
    assert.deepEqual([...new Set(town.instances.map((i) => i.version))], ['v2']);
    const back = town.moves.map((m) => m.share[0]);
    const least = back.indexOf(Math.min(...back));
    assert.deepEqual(back.slice(least), [...back.slice(least)].sort((a, b) => a - b), 'upwards only');
    assert.deepEqual(town.wrong, []);
    assert.equal((await doc(cli)).currentVersion, (await doc(cli)).fromVersion);
    assert.equal((await cli('watch', NAME)).code, 1);

    // In a hurry: at once to all, but not before it can be carried.
    town.moves.length = 0;
    const run = command(stack, ['rollback', 'run', NAME, ...WHO, '--to', 'v1', '--emergency', '--id', 'job-e']);
    const done = await run.end;
    assert.equal(done.code, 0, done.err + done.out);
    assert.equal(town.moves.at(-1).share.join('/'), '0/100');
    assert.ok(town.moves.length <= 2, JSON.stringify(town.moves));
    assert.deepEqual(town.wrong, []);
    // The same run again: its job is over, and the target is what runs.
    assert.equal((await cli('run', NAME, ...WHO, '--id', 'job-e')).code, 0);
  });
});

test('refused before anything has changed, with what to do', { timeout: 180000 }, async () => {
  await withTown('rb-refused', async (stack, town, cli) => {
    const touched = () => town.orders.filter(([v]) => !['check', 'keep'].includes(v));
    const unknown = await cli('start', NAME, ...WHO, '--to', 'v9');
    assert.equal(unknown.code, 4);
    assert.match(unknown.err, /v9/);
    assert.equal((await cli('start', 'nobody', ...WHO)).code, 4);
    assert.equal((await cli('start', NAME, ...WHO, '--to', 'v2')).code, 4, 'it runs already');
    // Below the floor; with force and a reason it is done, and said.
    const low = await cli('start', NAME, ...WHO, '--to', 'v0');
    assert.equal(low.code, 4);
    assert.match(low.err, /v1|floor|force/);
    // The image is gone.
    const was = town.versions.get('v1');
    town.versions.delete('v1');
    const run = await cli('run', NAME, ...WHO, '--to', 'v1');
    assert.equal(run.code, 1, run.out + run.err);
    assert.match(run.err, /refused: nothing was changed.*no image for v1/);
    town.versions.set('v1', was);
    // The balancer is away for good.
    assert.deepEqual(touched(), []);
    assert.deepEqual(town.moves, []);
    assert.deepEqual((await doc(cli)).phase, 'REFUSED');
    assert.match((await cli('history', NAME)).out, /REFUSED/);
    const forced = command(stack, ['rollback', 'run', NAME, '--by', 'eve', '--reason', 'v1 has the same hole, v0 is all there is', '--to', 'v0', '--force']);
    assert.equal((await forced.end).code, 0, forced.err + forced.out);
    assert.equal((await doc(cli)).forced, true);
    assert.deepEqual(town.instances.map((i) => i.version), ['v0', 'v0']);
    assert.deepEqual(town.wrong, []);
  }, { versions: ['v0', 'v1', 'v2'], more: '      floor: v1\n' });
});

test('a regression holds it, and the exit code says so', { timeout: 180000 }, async () => {
  await withTown('rb-worse', async (stack, town, cli) => {
    const run = command(stack, ['rollback', 'run', NAME, ...WHO, '--hold-limit', '1s', '--on-hold', 'abort']);
    await until('half of the traffic', () => town.share[1] >= 50);
    town.sick.add('v1');
    const end = await run.end;
    assert.equal(end.code, 1);
    assert.match(end.out, /HOLDS in SHIFT.*REGRESSION.*known-answer/);
    assert.match(end.out, /aborting/);
    assert.match(end.err, /aborted/);
    assert.deepEqual(town.share, [100, 0]);
    assert.deepEqual(town.wrong, []);
    const checks = JSON.parse((await cli('history', NAME, '--json')).out).history[0];
    assert.deepEqual([checks.phase, checks.startedBy], ['ABORTED', 'eve']);
    // People were told at once, and that a person must act.
    const told = fs.readFileSync(path.join(stack.dir, 'alerts.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l));
    assert.ok(told.some((m) => JSON.stringify(m).includes('CRITICAL') && JSON.stringify(m).includes(`rollback/${NAME}/hold`)), JSON.stringify(told).slice(0, 2000));
  });
});
