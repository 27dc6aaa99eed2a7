// rollback-docs.mjs - documents of a deployment as redoubt-rollback would announce them, and a service that answers as the test says: for tests of who reads and orders.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { ceHeaders, decode, encode, top } from './contract.mjs';
import { until } from './wait.mjs';

export const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
const V1 = '00000000000000a1';
const V2 = '00000000000000a2';

// A job from v2 to v1 in the middle of its shift; `more` changes it.
export function doc(more = {}) {
  const steps = [100, 50, 25, 10, 0].map((w) => ({ weight_percent: w, observe_ms: 30000, needs_ready: w === 100 ? 0 : 2 }));
  const version = (id, name) => ({ id, name, digest: `sha256:${id}${id}`, config_hash: 'c'.repeat(64), state: 'VERSION_STATE_VERIFIED', recorded_unix_ms: 1000, verified_unix_ms: Date.now() - 60000, kept: true, data_schema: 7 });
  return {
    deployment: 'agent-1', epoch: 1, job_id: 'job-1', phase: 'ROLLBACK_PHASE_SHIFT', stage: 'ROLLBACK_STAGE_OBSERVE', step: 1, from_version: V2, to_version: V1, current_version: V2,
    weight_percent: 50, weight_wanted: 50, started_by: 'eve', started_why: 'v2 is blind', started_unix_ms: Date.now() - 40000, changed_unix_ms: Date.now(), phase_since_unix_ms: Date.now() - 40000,
    stage_since_unix_ms: Date.now() - 5000, plan: { steps, from_version: V2, to_version: V1, from_name: 'v2', to_name: 'v1', instances: 2, data: 'keep', drain_ms: 30000, watch_ms: 120000 },
    versions: [version(V1, 'v1'), version(V2, 'v2')], ...more,
  };
}
export const IDLE = { job_id: '', phase: 'ROLLBACK_PHASE_IDLE', stage: 'ROLLBACK_STAGE_UNSPECIFIED', from_version: '', to_version: '', plan: null, weight_percent: 0, weight_wanted: 0, started_by: '' };
export const DONE = { phase: 'ROLLBACK_PHASE_DONE', stage: 'ROLLBACK_STAGE_UNSPECIFIED', step: 4, weight_percent: 0, weight_wanted: 0, current_version: V1 };
export const ABORTED = { phase: 'ROLLBACK_PHASE_ABORTED', stage: 'ROLLBACK_STAGE_UNSPECIFIED', weight_percent: 100, weight_wanted: 100, reason: 'eve gave it up' };
export const HELD = { phase: 'ROLLBACK_PHASE_HOLD', held_phase: 'ROLLBACK_PHASE_SHIFT', hold: 'ROLLBACK_HOLD_REGRESSION', reason: 'known-answer: it lets an attack pass' };

// `orders` holds what was asked, but for states; `answer(verb, order)` gives {status, message, payload}; a state is the last document unless `deaf`.
export class Service {
  constructor(nc) {
    this.nc = nc;
    this.orders = [];
    this.epoch = 0;
    this.deaf = false;
    this.answer = () => ({ status: 'COMMAND_STATUS_OK', message: 'done so' });
    this.sub = nc.subscribe('redoubt.v1.cmd.rollback.*', { callback: (e, m) => { if (!e && !this.deaf) this.take(m); } });
  }

  take(m) {
    const verb = m.subject.split('.').pop();
    const order = decode('RollbackCommand', m.data);
    let reply = { status: 'COMMAND_STATUS_INVALID', message: `unknown deployment ${order.deployment}` };
    if (verb === 'state' && this.last?.deployment === order.deployment) reply = { status: 'COMMAND_STATUS_OK', payload: encode('RollbackChanged', this.last) };
    if (verb !== 'state') {
      this.orders.push({ verb, ...order });
      reply = this.answer(verb, order) ?? null;
    }
    if (reply) m.respond(encode('CommandReply', reply));
  }

  // Announces the next document; gives it.
  async say(more = {}) {
    this.last = doc({ ...more, epoch: ++this.epoch });
    const id = `${this.last.deployment}-${this.epoch}`;
    const js = this.nc.jetstream();
    await until('the stream of states', () => js.publish(`redoubt.v1.rollback.${this.last.deployment}`, encode('RollbackChanged', this.last), { headers: ceHeaders('RollbackChanged', id, 'e2e'), msgID: id }).catch(() => null));
    return this.last;
  }
}

// The operator's command as a process that can be watched and killed: `out` and `err` grow, `end` is {code, signal}.
export function command(stack, args, env = {}, program = path.join(bin, 'redoubt')) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, REDOUBT_CONFIG: stack.config, ...env } });
  const c = { child, out: '', err: '' };
  child.stdout.on('data', (d) => { c.out += d; });
  child.stderr.on('data', (d) => { c.err += d; });
  c.end = once(child, 'close').then(([code, signal]) => ({ code, signal, out: c.out, err: c.err }));
  return c;
}
