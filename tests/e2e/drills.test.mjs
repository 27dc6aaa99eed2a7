// drills.test.mjs - every drill on its private stack: all steps happen, no action is lost or done twice, the figures are the same, nothing stays.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { top } from './lib/contract.mjs';
import { until } from './lib/wait.mjs';

const redoubt = path.join(process.env.REDOUBT_BIN ?? path.join(top, 'build/bin'), 'redoubt');
const DRILLS = ['llm-outage', 'backend-outage', 'logic-error', 'resource-exhaustion', 'partition', 'agent-loss'];
const TIMES = ['detection_ms', 'fallback_ms', 'ack_ms', 'first_alert_ms', 'failback_ms'];
const COUNTS = ['actions_asked', 'actions_accepted', 'actions_queued', 'actions_refused', 'actions_executed', 'actions_lost', 'actions_doubled', 'actions_repeated'];

// A folder that holds everything of one run.
function place(name) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), `redoubt-e2e-${name}-`));
  fs.mkdirSync(path.join(dir, 'tmp'));
  return { dir, tmp: path.join(dir, 'tmp'), state: path.join(dir, 'state') };
}

function start(args, p) {
  const { KEEP, ...env } = process.env;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', redoubt, 'drill', ...args], {
    env: { ...env, TMPDIR: p.tmp, XDG_STATE_HOME: p.state, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out = { text: '' };
  for (const s of [child.stdout, child.stderr]) s.on('data', (d) => { out.text += d; });
  const ended = new Promise((done) => child.on('close', (code, signal) => done({ code, signal })));
  return { child, out, ended };
}

function checkFigures(j, name) {
  assert.equal(j.drill, name);
  assert.equal(j.ok, true, j.why);
  assert.deepEqual(Object.keys(j.measures), [...TIMES, ...COUNTS], 'the same keys in every drill');
  for (const k of TIMES) assert.ok(j.measures[k] >= 0, `${name}: ${k} was measured: ${j.measures[k]}`);
  assert.equal(j.measures.actions_lost, 0);
  assert.equal(j.measures.actions_doubled, 0);
}

describe('drills', { concurrency: 3 }, () => {
  for (const name of DRILLS)
    test(name, { timeout: 200000 }, async () => {
      const p = place(name);
      try {
        const file = path.join(p.dir, 'figures.json');
        const d = start([name, '--json', file], p);
        const { code } = await d.ended;
        assert.equal(code, 0, d.out.text);
        const j = JSON.parse(fs.readFileSync(file, 'utf8'));
        checkFigures(j, name);
        assert.ok(j.measures.actions_accepted > 0, 'the agent acts');
        if (name === 'backend-outage') assert.ok(j.measures.actions_queued > 0, 'actions have waited');
        for (const s of j.steps) for (const m of s.marks) assert.equal(m.seen, true, `${s.key}.${m.key}`);
        assert.deepEqual(fs.readdirSync(p.tmp), [], 'nothing stays behind');
      } finally {
        fs.rmSync(p.dir, { recursive: true, force: true });
      }
    });

  test('several in a row, with one table and one file', { timeout: 200000 }, async () => {
    const p = place('all');
    try {
      const d = start(['all', 'agent-loss'], p);
      const { code } = await d.ended;
      assert.equal(code, 0, d.out.text);
      assert.match(d.out.text, /DRILL +RESULT +DETECTION/);
      const dir = path.join(p.state, 'redoubt/drills');
      const [file, ...more] = fs.readdirSync(dir);
      assert.deepEqual(more, []);
      assert.match(file, /^all-\d{8}T\d{6}Z\.json$/);
      const j = JSON.parse(fs.readFileSync(path.join(dir, file), 'utf8'));
      assert.equal(j.ok, true);
      checkFigures(j.drills[0], 'agent-loss');
      assert.deepEqual(fs.readdirSync(p.tmp), []);
    } finally {
      fs.rmSync(p.dir, { recursive: true, force: true });
    }
  });

  // Killed while its executor has just restarted the agent, or is about to: the stack dies with it all the same.
  test('kill -9 in the middle leaves nothing', { timeout: 200000 }, async () => {
    const p = place('kill');
    try {
      const d = start(['resource-exhaustion', '--json', '-'], p);
      await until(() => `the failure to happen: ${d.out.text}`, () => /takes 256 MiB more/.test(d.out.text), 40000);
      const [dir] = fs.readdirSync(p.tmp);
      const pids = () => fs.readFileSync(path.join(p.tmp, dir, 'pids'), 'utf8').trim().split('\n').map((l) => Number(l.split(' ')[0]));
      const known = pids();
      d.child.kill('SIGKILL');
      await d.ended;
      await until('its directory to go', () => fs.readdirSync(p.tmp).length === 0);
      const alive = (pid) => {
        try { return !/\) [ZX] /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')); } catch { return false; }
      };
      await until('its processes to end', () => !known.some(alive));
    } finally {
      fs.rmSync(p.dir, { recursive: true, force: true });
    }
  });
});
