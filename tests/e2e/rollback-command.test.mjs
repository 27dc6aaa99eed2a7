// rollback-command.test.mjs - `redoubt rollback` as a person and a script meet it, with a service that does what the test says: exit codes, tables, JSON, and a watch that
// outlives lost connections. rollback.test.mjs is the same with the real service.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { encode, ceHeaders, top } from './lib/contract.mjs';
import { ABORTED, bin, command, DONE, HELD, IDLE, Service } from './lib/rollback-docs.mjs';
import { withStack } from './lib/stack.mjs';
import { until } from './lib/wait.mjs';

const WHO = ['--by', 'eve', '--reason', 'v2 is blind'];

async function withService(name, body) {
  await withStack(name, 'alert: { channels: [] }\n', async (stack) => {
    const nc = await stack.nats();
    const s = new Service(nc);
    const cli = async (...args) => stack.cli(['rollback', ...args]);
    await body(stack, s, cli, nc);
  }, { services: ['audit'] });
}

test('what could be gone back to is found without knowing anything', { timeout: 60000 }, async () => {
  await withService('rb-see', async (stack, s, cli, nc) => {
    await until('the stream of states', async () => (await cli()).code === 0);
    assert.match((await cli()).out, /no deployment is known/);
    await s.say(IDLE);
    await until('the deployment', async () => /agent-1/.test((await cli()).out));
    const all = await cli();
    assert.match(all.out, /agent-1 +v2 +v1 /);
    assert.match(all.out, /redoubt rollback start agent-1 --to v1 --by NAME --reason WHY/);
    assert.equal(JSON.parse((await cli('--json')).out).deployments[0].currentVersion, '00000000000000a2');

    // Versions, with what their records say.
    const rec = { deployment: 'agent-1', version: s.last.versions[0], executor: 'docker', image: 'agent:v1', spec: Buffer.from('{}'), gaps: ['compose config `rules`'] };
    await nc.jetstream().publish('redoubt.v1.version.agent-1.00000000000000a1', encode('VersionRecord', rec), { headers: ceHeaders('VersionRecord', 'r1', 'e2e'), msgID: 'r1' });
    const versions = await cli('versions', 'agent-1');
    assert.match(versions.out, /\* +v2 +00000000000000a2 +sha256:000000000000 +verified .* current +7 +0/);
    assert.match(versions.out, / v1 .* yes +7 +0 +cannot be made again: compose config `rules`/);
    const list = JSON.parse((await cli('versions', 'agent-1', '--json')).out).versions;
    assert.deepEqual(list.map((v) => [v.name, v.current, v.gaps.length, v.image]), [['v2', true, 0, ''], ['v1', false, 1, 'agent:v1']]);

    // Wrong usage says what is right.
    assert.equal((await cli('versions', 'no such')).code, 2);
    assert.equal((await cli('versions', 'nothing')).code, 4);
    const wrong = await cli('strat', 'agent-1');
    assert.equal(wrong.code, 2);
    assert.match(wrong.err, /no command `strat`/);
    const help = await stack.cli(['help', 'rollback']);
    for (const verb of ['versions', 'plan', 'start', 'status', 'watch', 'run', 'hold', 'resume', 'abort', 'emergency', 'history', 'lineage'])
      assert.match(help.out, new RegExp(`\\n  ${verb} `), verb);

    // A service that is away: what it announced last is there, and said to be that.
    s.deaf = true;
    const old = await cli('status', 'agent-1', '--timeout', '500ms');
    assert.equal(old.code, 0);
    assert.match(old.err, /does not answer/);
    assert.match(old.out, /current +v2/);
  });
});

test('orders: who and why, the same one once, and what a refusal is', { timeout: 60000 }, async () => {
  await withService('rb-order', async (stack, s, cli) => {
    await s.say(IDLE);
    for (const verb of ['start', 'hold', 'resume', 'abort', 'emergency', 'run']) {
      const r = await cli(verb, 'agent-1', '--by', 'eve');
      assert.equal(r.code, 2, verb);
      assert.match(r.err, /--reason/);
    }
    for (const bad of [['--tainted'], ['--since', '24h'], ['--tainted', '--since', 'yesterday'], ['--tainted', '--since', '1h', '--restore', 'x'], ['--id', 'a b'], ['--id', 'x'.repeat(65)]])
      assert.equal((await cli('start', 'agent-1', ...WHO, ...bad)).code, 2, bad.join(' '));
    assert.equal(s.orders.length, 0);

    const started = await cli('start', 'agent-1', ...WHO, '--to', 'v1', '--force', '--restore', 'lineage');
    assert.equal(started.code, 0, started.err);
    assert.match(started.out, /done so\njob agent-1-\d{14}-[0-9a-f]{8}; `redoubt rollback watch agent-1` follows it/);
    const [o] = s.orders.splice(0);
    assert.deepEqual([o.verb, o.by, o.reason, o.to_version, o.force, o.emergency, o.restore_snapshot], ['start', 'eve', 'v2 is blind', 'v1', true, false, 'lineage']);
    assert.match(o.job_id, /^agent-1-\d{14}-[0-9a-f]{8}$/);

    // No answer: asked again under the same id, so that it is one job.
    let asked = 0;
    s.answer = () => (++asked < 3 ? null : { status: 'COMMAND_STATUS_ALREADY', message: 'it is under way' });
    assert.equal((await cli('start', 'agent-1', ...WHO)).code, 0);
    assert.equal(new Set(s.orders.splice(0).map((x) => x.job_id)).size, 1);
    assert.equal(asked, 3);

    s.answer = () => ({ status: 'COMMAND_STATUS_INVALID', message: 'v1 is below the floor\u001b[2J' });
    const refused = await cli('start', 'agent-1', ...WHO, '--tainted', '--since', '24h');
    assert.equal(refused.code, 4);
    assert.match(refused.err, /refused: v1 is below the floor\?\[2J/);
    const since = s.orders.splice(0)[0].tainted_since_unix_ms;
    assert.ok(Math.abs(Date.now() - 86400000 - since) < 60000);
    for (const verb of ['hold', 'resume', 'abort', 'emergency']) assert.equal((await cli(verb, 'agent-1', ...WHO)).code, 4);
    assert.deepEqual(s.orders.splice(0).map((x) => x.verb), ['hold', 'resume', 'abort', 'emergency']);

    // The plan is numbered, and nothing else is asked for.
    s.answer = (verb) => (verb === 'plan' ? { status: 'COMMAND_STATUS_OK', payload: encode('RollbackPlan', { lines: ['first this', 'then that'], from_name: 'v2', to_name: 'v1' }) } : null);
    const dry = await cli('start', 'agent-1', '--dry-run');
    assert.equal(dry.code, 0, dry.err);
    assert.equal(dry.out, ' 1. first this\n 2. then that\nThis is the plan; nothing was done.\n');
    assert.deepEqual(JSON.parse((await cli('plan', 'agent-1', '--json')).out).lines, ['first this', 'then that']);
    assert.deepEqual(s.orders.map((x) => x.verb), ['plan', 'plan']);
    s.deaf = true;
    assert.equal((await cli('hold', 'agent-1', ...WHO, '--timeout', '300ms')).code, 3);
  });
});

test('a status that holds fails, and says how to go on', { timeout: 60000 }, async () => {
  await withService('rb-status', async (stack, s, cli) => {
    await s.say();
    const well = await cli('status', 'agent-1');
    assert.equal(well.code, 0);
    assert.match(well.out, /traffic +v2 +50 % \[#{12}-{12}\] +50 % v1/);
    assert.match(well.out, /started .* by eve: v2 is blind/);
    const checks = [{ name: 'known-answer', check_class: 'CHECK_CLASS_SECURITY', outcome: 'CHECK_OUTCOME_FAILED', in_a_row: 1, limit: 0, detail: 'allowed' }];
    await s.say({ ...HELD, checks });
    const r = await cli('status', 'agent-1');
    assert.equal(r.code, 1);
    assert.match(r.out, /HOLDS in SHIFT, step 2 of 5: REGRESSION/);
    assert.match(r.out, /known-answer +SECURITY +FAILED +1 of 1 .* allowed/);
    for (const [verb, option] of [['resume', ' --force'], ['abort', ''], ['emergency', '']]) assert.match(r.out, new RegExp(`redoubt rollback ${verb} agent-1${option} --by NAME --reason WHY`));
    assert.equal((await cli('status')).code, 1);
    assert.equal(JSON.parse((await cli('status', 'agent-1', '--json')).out).hold, 'REGRESSION');
    // The suite's status has it, too: a hold is not normal.
    const suite = await stack.cli(['status']);
    assert.equal(suite.code, 1);
    assert.match(suite.out, /deployment agent-1: rollback to v1 HOLDS in SHIFT/);
    assert.match(suite.out, /service rollback does not answer/);
    const tail = command(stack, ['tail', 'rollback', '-n', '1', '--replay']);
    assert.match((await tail.end).out, /rollback +agent-1 +HOLDS in SHIFT, step 2 of 5: REGRESSION; v2 50 %, v1 50 %; known-answer: it lets an attack pass/);

    const history = [{ job_id: 'j0', from_name: 'v3', to_name: 'v2', phase: 'ROLLBACK_PHASE_DONE', started_by: 'adam', started_why: 'slow', started_unix_ms: 1700000000000, ended_unix_ms: 1700000240000, holds: 2 },
      { job_id: 'j1', from_name: 'v3', to_name: 'v1', phase: 'ROLLBACK_PHASE_REFUSED', reason: 'no image', started_by: 'adam', started_why: 'slow', started_unix_ms: 1600000000000, ended_unix_ms: 1600000000100 }];
    const lineage = [{ version_id: '00000000000000a2', version_name: 'v2', snapshot: '4bb1', taken_unix_ms: 1700000000000, stream: 'REDOUBT_AUDIT', stream_sequence: 123456, files: 7, bytes: 4096, data_schema: 7, verified: true, job_id: 'j0', why: 'before rollback' }];
    await s.say({ ...HELD, history, lineage });
    assert.match((await cli('history', 'agent-1')).out, /agent-1 +v3 -> v2 +DONE +4 min +2 +adam +j0 +slow\n.* v3 -> v1 +REFUSED .* slow; no image/);
    assert.equal(JSON.parse((await cli('history', 'agent-1', '-n', '1', '--json')).out).history.length, 1);
    assert.match((await cli('lineage', 'agent-1')).out, /v2 \* +4bb1 +REDOUBT_AUDIT 123456 +7 +4096 +7 +verified +before rollback, job j0/);
    assert.equal(JSON.parse((await cli('lineage', 'agent-1', '--json')).out).lineage[0].streamSequence, 123456);
  });
});

test('a watch ends with its job, whatever is lost meanwhile', { timeout: 120000 }, async () => {
  await withService('rb-watch', async (stack, s, cli, nc) => {
    await s.say(IDLE);
    assert.match((await cli('watch', 'agent-1')).err, /there was none so far/);
    await s.say();
    const w = command(stack, ['rollback', 'watch', 'agent-1']);
    await until('its first line', () => /step 2 of 5: observed; v2 50 %, v1 50 %/.test(w.out));
    await s.say({ step: 2, weight_percent: 25 });
    await until('the change', () => /step 3 of 5: observed; v2 25 %/.test(w.out));
    // The bus is restarted; what happened meanwhile is told when it is back.
    await stack.kill('nats');
    await until('the loss to be said', () => /the connection was lost/.test(w.err));
    stack.run('nats');
    await stack.ready();
    await until('the way back to be said', () => /connected again/.test(w.err));
    await s.say({ ...HELD, step: 2, weight_percent: 25 });
    await until('the hold', () => /HOLDS in SHIFT/.test(w.out));
    const held = await cli('watch', 'agent-1', '--no-wait');
    assert.equal(held.code, 1);
    assert.match(held.err, /it holds: known-answer[^]*rollback abort agent-1/);
    await s.say(DONE);
    const end = await w.end;
    assert.equal(end.code, 0, end.err);
    assert.equal(end.out.match(/step 2 of 5/g).length, 1, 'the same is not said twice');
    assert.equal((await cli('watch', 'agent-1')).code, 0);
    await s.say(ABORTED);
    const aborted = await cli('watch', 'agent-1');
    assert.equal(aborted.code, 1);
    assert.match(aborted.err, /aborted: the former version carries the traffic; eve gave it up/);
    // A job that ended and made place for another one.
    await s.say({ job_id: 'job-2' });
    const j = command(stack, ['rollback', 'watch', 'agent-1', '--json']);
    await until('its document', () => j.out.includes('\n'));
    await s.say({ job_id: 'job-3', history: [{ job_id: 'job-2', from_name: 'v2', to_name: 'v1', phase: 'ROLLBACK_PHASE_DONE' }] });
    assert.equal((await j.end).code, 0);
    assert.equal(JSON.parse(j.out.split('\n')[0]).jobId, 'job-2');
    // It can be left.
    const left = command(stack, ['rollback', 'watch', 'agent-1']);
    await until('its first line', () => left.out.includes('SHIFT'));
    left.child.kill('SIGTERM');
    assert.equal((await left.end).code, 3);
    assert.match(left.err, /the job goes on/);
  });
});

// What a terminal would show: lines, and the cursor's way up over what is drawn anew.
function screen(text) {
  const rows = [];
  let at = 0;
  for (const part of text.replace(/\r/g, '').split(/(\n|\u001b\[\d*[AJ])/)) {
    const up = /^\u001b\[(\d+)A$/.exec(part);
    if (up) at -= Number(up[1]);
    else if (part === '\u001b[J') rows.length = at;
    else if (part === '\n') at++;
    else rows[at] = (rows[at] ?? '') + part.replace(/\u001b\[[\d;]*m/g, '');
  }
  return rows;
}

test('on a terminal the job is drawn in place', { timeout: 60000 }, async () => {
  await withService('rb-tty', async (stack, s) => {
    const evil = 'x\u001b[2J\nlong '.repeat(30);
    const checks = [{ name: 'known-answer', check_class: 'CHECK_CLASS_SECURITY', outcome: 'CHECK_OUTCOME_PASSED' }];
    await s.say({ checks });
    const w = command(stack, ['-qec', `${bin}/redoubt rollback watch agent-1`, '/dev/null'], { TERM: 'xterm' }, 'script');
    const rows = () => screen(w.out);
    await until(() => `the drawing: ${JSON.stringify(w.out)}`, () => rows().some((l) => /checks +known-answer PASSED/.test(l)));
    assert.ok(rows().some((l) => /traffic +v2 +50 % \[#{12}-{12}\] +50 % v1/.test(l)));
    assert.ok(rows().some((l) => /progress +\[#+-+\] +\d+ %, .* so far, at least .* left/.test(l)));
    await s.say({ ...HELD, reason: evil });
    await until('the hold', () => rows().some((l) => /job +HOLDS in SHIFT/.test(l)));
    assert.equal(rows().filter((l) => /^ +traffic /.test(l)).length, 1, 'drawn over, not below');
    await s.say(DONE);
    const end = await w.end;
    assert.equal(end.code, 0);
    assert.equal(rows().filter((l) => /^ +(traffic|job|progress) /.test(l)).length, 0, 'the drawing is gone at the end');
    assert.ok(!end.out.includes('\u001b[2J'), 'no text of the bus drives the terminal');
    assert.match(rows().filter((l) => l).at(-1), /done/);
  });
});

test('run: the exit code is the result', { timeout: 120000 }, async () => {
  await withService('rb-run', async (stack, s, cli) => {
    const run = (args = [], env = {}) => command(stack, ['rollback', 'run', 'agent-1', ...WHO, ...args], env);
    const started = async (r, verb = 'start') => until(() => `an order to ${verb}; ${r.err}`, () => s.orders.find((o) => o.verb === verb));
    await s.say(IDLE);

    // DONE, and the target is what runs.
    let r = run(['--id', 'job-1']);
    await started(r);
    await s.say();
    await until('progress', () => /SHIFT/.test(r.out));
    await s.say(DONE);
    assert.equal((await r.end).code, 0, r.err);
    // Begun again, as a restarted pod would: the same id, and at once its end.
    r = run([], { REDOUBT_JOB_ID: 'job-1' });
    assert.equal((await r.end).code, 0, r.err);
    assert.deepEqual(s.orders.splice(0).map((o) => o.job_id), ['job-1', 'job-1']);
    // In a pod its name is the id.
    r = run([], { KUBERNETES_SERVICE_HOST: '10.0.0.1', HOSTNAME: 'job.1' });
    const pod = await started(r);
    assert.equal(pod.job_id, 'job-1');
    assert.equal((await r.end).code, 0);
    s.orders.length = 0;

    // Somebody has deployed since.
    await s.say({ ...DONE, current_version: '00000000000000a2' });
    assert.equal((await run(['--id', 'job-1']).end).code, 1);
    await s.say(ABORTED);
    assert.equal((await run(['--id', 'job-1']).end).code, 1);
    await s.say({ ...ABORTED, phase: 'ROLLBACK_PHASE_REFUSED', reason: 'no image' });
    const refused = await run(['--id', 'job-1']).end;
    assert.equal(refused.code, 1);
    assert.match(refused.err, /refused: nothing was changed; no image/);
    s.orders.length = 0;

    // A hold: left to a person, or aborted.
    await s.say(HELD);
    const left = await run(['--id', 'job-1', '--hold-limit', '1s']).end;
    assert.equal(left.code, 1);
    assert.match(left.err, /it holds: known-answer/);
    assert.ok(!s.orders.some((o) => o.verb === 'abort'));
    r = run(['--id', 'job-1', '--hold-limit', '1s', '--on-hold', 'abort']);
    const abort = await started(r, 'abort');
    assert.deepEqual([abort.by, abort.job_id], ['eve', 'job-1']);
    assert.match(abort.reason, /it held for 1.0 s: known-answer/);
    await s.say({ ...HELD, phase: 'ROLLBACK_PHASE_ABORTING' });
    await s.say(ABORTED);
    assert.equal((await r.end).code, 1);
    assert.equal((await cli('run', 'agent-1', ...WHO, '--on-hold', 'maybe')).code, 2);

    // SIGTERM ends the command, not the job.
    await s.say();
    s.orders.length = 0;
    r = run(['--id', 'job-1']);
    await until('progress', () => /SHIFT/.test(r.out));
    r.child.kill('SIGTERM');
    assert.equal((await r.end).code, 3); // its end was not seen: whoever starts it again may go on
    assert.match(r.err, /interrupted; the job goes on: `redoubt rollback watch agent-1` follows it/);
    assert.deepEqual(s.orders.map((o) => o.verb), ['start']);

    // "Not now" is tried again; no is no.
    let asked = 0;
    s.answer = () => (++asked < 2 ? { status: 'COMMAND_STATUS_UNAVAILABLE', message: 'Redis is away' } : { status: 'COMMAND_STATUS_OK', message: 'begun' });
    r = run(['--id', 'job-1']);
    await until('progress', () => /SHIFT/.test(r.out));
    assert.match(r.err, /not now: Redis is away; trying again/);
    // A service that is gone for too long: it is not known how the job stands.
    s.deaf = true;
    r.child.kill('SIGTERM');
    await r.end;
    s.deaf = false;
    r = run(['--id', 'job-1', '--lost-limit', '4s']);
    await until('progress', () => /SHIFT/.test(r.out));
    s.deaf = true;
    await stack.kill('nats');
    const lost = await r.end;
    assert.equal(lost.code, 3, lost.err);
    assert.match(lost.err, /it is not known how the job stands/);
    stack.run('nats');
    await stack.ready();
    s.deaf = false;
    s.answer = () => ({ status: 'COMMAND_STATUS_INVALID', message: 'no version of that name' });
    assert.equal((await cli('run', 'agent-1', ...WHO)).code, 4);
  });
});

// A comment that is wrong is worse than none.
test('the examples of a deployment and of continuity are right when they are taken out of their comments', { timeout: 60000 }, async () => {
  await withService('rb-example', async (stack) => {
    const text = fs.readFileSync(path.join(top, 'deploy/redoubt.yaml'), 'utf8');
    const at = text.indexOf('rollback:\n  deployments: []\n');
    assert.ok(at > 0);
    const file = path.join(stack.dir, 'example.yaml'), continuity = text.indexOf('\n# How long things may take');
    assert.ok(continuity > at);
    const rollback = text.slice(at, continuity).replace('deployments: []', 'deployments:').replace(/^ {2}#/gm, '  ');
    // Of continuity what is no sentence: items of lists, and the repository.
    const rest = text.slice(continuity).replace(/^( {2}(own|backups|drills):) \[\]/gm, '$1').replace(/^ {2}#( {2}- )/gm, '  $1').replace(/^ {2}# ((repository:$| {2}repository:| {2}password_file:))/gm, '  $1');
    assert.match(rest, /^ {4}- \{name: learning/m);
    fs.writeFileSync(file, text.slice(0, at) + rollback + rest);
    const r = await stack.cli(['config', 'check', file]);
    assert.equal(r.code, 0, r.err);
    assert.match(r.out, /1 deployments/);
  });
});
