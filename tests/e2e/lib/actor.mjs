// actor.mjs - agents that act through the guard, and a backend that keeps count: what was accepted must be done, once, and nothing else.
import http from 'node:http';
import { once } from 'node:events';
import { decode, encode } from './contract.mjs';
import { Agent } from './agent.mjs';
import { freePort } from './stack.mjs';
import { pause } from './wait.mjs';

// A backend that executes each Idempotency-Key once, as the contract asks of it. `calls` holds every request that reached it.
export class CountingBackend {
  calls = []; // {agent, key, n, epoch, at, repeated}
  executed = new Map(); // "<agent>/<n>" -> how often, by different keys
  keys = new Set();
  override = { active: null };

  async open(host) {
    this.host ??= host ?? '127.0.0.1';
    this.port ??= await freePort(this.host);
    this.server = http.createServer((req, res) => this.serve(req, res));
    this.server.listen(this.port, this.host);
    await once(this.server, 'listening');
    return this;
  }

  async close() {
    if (!this.server) return;
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
    this.server = null;
  }

  get url() {
    return `http://${this.host}:${this.port}`;
  }

  serve(req, res) {
    const parts = [];
    req.on('data', (p) => parts.push(p));
    req.on('error', () => {});
    req.on('end', () => {
      if (req.url === '/health') return res.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}');
      if (req.url !== '/api/actions') return res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}');
      const b = JSON.parse(Buffer.concat(parts));
      const key = req.headers['idempotency-key'], n = Number(b.parameters.number);
      const repeated = this.keys.has(key);
      this.calls.push({ agent: b.agent, key, n, epoch: Number(req.headers['redoubt-epoch']), at: performance.now(), repeated });
      if (!repeated) {
        this.keys.add(key);
        const id = `${b.agent}/${n}`;
        this.executed.set(id, (this.executed.get(id) ?? 0) + 1);
      }
      return res.writeHead(202, { 'content-type': 'application/json' }).end(`{"ok":true,"repeated":${repeated}}`);
    });
  }
}

const AGAIN = new Set(['REFUSAL_REASON_STALE_EPOCH', 'REFUSAL_REASON_STATE_UNKNOWN', 'REFUSAL_REASON_IN_PROGRESS']);

// An agent that acts: one action after the other, each under a key of its own, asked again under the same key until its fate is known.
export class Actor extends Agent {
  constructor(nc, name, urls, options = {}) {
    super(nc, name, urls, options);
    this.pace_ms = options.pace_ms ?? 20;
    this.accepted = new Map(); // number -> how the guard has taken it over: forwarded or queued
    this.refused = new Map(); // number -> reason
    this.unknown = new Set(); // asked for, and the end came first
    this.n = 0;
    this.acting = true;
  }

  start() {
    super.start();
    this.tasks.push(this.act());
  }

  async act() {
    while (!this.stopped) {
      if (this.acting && this.epoch > 0) await this.one(++this.n);
      await pause(this.pace_ms);
    }
  }

  async one(n) {
    this.unknown.add(n);
    while (!this.stopped) {
      const request = { agent: this.name, epoch: this.epoch, idempotency_key: `${this.name}-${n}`, action: 'block_ip', requested_unix_ms: Date.now(),
        parameters: [{ key: 'ip', value: `192.0.2.${n % 250}` }, { key: 'number', value: String(n) }], instance: 'js-1' };
      let r = null;
      try {
        r = decode('ActionReply', (await this.nc.request(`redoubt.v1.action.${this.name}`, encode('ActionRequest', request), { timeout: 2000 })).data);
      } catch { /* nobody answered: it may have happened, or not */ }
      if (r && r.decision !== 'ACTION_DECISION_FAILED' && !(r.decision === 'ACTION_DECISION_REFUSED' && AGAIN.has(r.refusal))) {
        this.unknown.delete(n);
        if (r.decision === 'ACTION_DECISION_REFUSED') this.refused.set(n, r.refusal);
        else this.accepted.set(n, `${r.decision.slice(16)} ${new Date().toISOString().slice(17, 23)} ${r.detail}`);
        this.last = r;
        return;
      }
      this.last = r;
      await pause(30);
    }
  }
}

// The settings that acting needs, for agents of the same kind.
export function baselineText() {
  return `version: "e2e-1"
description: what the tests' agents may do
actions:
  - name: block_ip
    queue: true
    postures: [normal, backup_llm, recovering, degraded, security_fallback]
    parameters:
      - { name: ip, type: ip, required: true }
      - { name: number, type: int, required: true, min: 0, max: 1000000000 }
`;
}

// What must hold in the end. `agents`: Actors that have stopped acting.
export function accounts(agents, backend) {
  const wrong = [];
  for (const a of agents) {
    for (const [n, how] of a.accepted) if (!backend.executed.has(`${a.name}/${n}`)) wrong.push(`lost: ${a.name}/${n} (${how})`);
    for (const [n, why] of a.refused) if (backend.executed.has(`${a.name}/${n}`)) wrong.push(`refused (${why}) but done: ${a.name}/${n}`);
  }
  for (const [id, times] of backend.executed) if (times > 1) wrong.push(`done ${times} times: ${id}`);
  return wrong;
}
