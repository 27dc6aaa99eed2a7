// agent.mjs - an agent in another language: nats and protobufjs only, written from proto/README.md.
import { AckPolicy, DeliverPolicy } from 'nats';
import { ceHeaders, decode, encode } from './contract.mjs';
import { pause } from './wait.mjs';

export class Agent {
  // `urls`: target name -> base URL of that LLM's API.
  constructor(nc, name, urls, { heartbeat_ms = 200, call_ms = 60 } = {}) {
    Object.assign(this, { nc, name, urls, heartbeat_ms, call_ms });
    this.directives = []; // every directive as it came, repeats included
    this.applied = []; // what was applied, one per epoch
    this.epoch = 0;
    this.state = null;
    this.sequence = 0;
    this.progress = 0;
    this.stopped = false;
  }

  start() {
    const sub = this.nc.subscribe(`redoubt.v1.directive.${this.name}`);
    this.tasks = [this.follow(sub), this.catchUp(), this.beat(), this.work(), this.watchConnection()];
  }

  async stop() {
    this.stopped = true;
    await Promise.race([Promise.allSettled(this.tasks), pause(500)]);
  }

  async follow(sub) {
    for await (const m of sub) this.take(m.data, m.headers?.get('ce-id'));
  }

  // After a (re)connect the last directive is read from the stream: a subscriber of core NATS was deaf meanwhile.
  async catchUp() {
    while (!this.stopped) {
      try {
        const jsm = await this.nc.jetstreamManager();
        const m = await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: `redoubt.v1.directive.${this.name}` });
        this.take(m.data, m.header?.get('ce-id'));
        return;
      } catch {
        await pause(100);
      }
    }
  }

  async watchConnection() {
    for await (const s of this.nc.status()) if (s.type === 'reconnect') this.catchUp();
  }

  take(bytes, id) {
    const d = decode('Directive', bytes);
    this.directives.push({ id, ...d });
    const already = d.state.epoch <= this.epoch;
    if (d.state.epoch < this.epoch) return;
    if (!already) {
      this.epoch = d.state.epoch;
      this.state = d.state;
      this.applied.push(d);
    }
    const ack = { agent: this.name, instance: 'js-1', epoch: d.state.epoch, status: already ? 'ACK_STATUS_ALREADY' : 'ACK_STATUS_APPLIED',
      applied_unix_ms: Date.now(), llm_target: d.state.llm_target };
    this.nc.publish(`redoubt.v1.ack.${this.name}`, encode('DirectiveAck', ack), { headers: ceHeaders('DirectiveAck', `ack/${this.name}/${d.state.epoch}/${this.directives.length}`, this.name) });
  }

  async beat() {
    while (!this.stopped) {
      const beat = { agent: this.name, instance: 'js-1', sequence: ++this.sequence, progress: this.progress, epoch: this.epoch,
        posture: this.state?.posture ?? 'POSTURE_UNSPECIFIED', interval_ms: this.heartbeat_ms, sent_unix_ms: Date.now() };
      if (!this.nc.isClosed()) this.nc.publish(`redoubt.v1.heartbeat.${this.name}`, encode('Heartbeat', beat));
      await pause(this.heartbeat_ms);
    }
  }

  // Calls its present LLM again and again and reports each outcome.
  async work() {
    while (!this.stopped) {
      const target = this.state?.llm_target;
      if (target && this.urls[target]) this.report(target, await this.call(this.urls[target]));
      await pause(this.call_ms);
    }
  }

  async call(url) {
    const start = Date.now();
    try {
      const r = await fetch(`${url}/chat/completions`, { method: 'POST', body: JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hi' }] }),
        headers: { 'content-type': 'application/json' }, signal: AbortSignal.timeout(1000) });
      const answer = await r.json().catch(() => ({}));
      this.progress++;
      const outcome = r.ok && Array.isArray(answer.choices) ? 'OUTCOME_SUCCESS' : r.status === 429 ? 'OUTCOME_RATE_LIMITED' : r.status === 503 ? 'OUTCOME_OVERLOADED' : 'OUTCOME_ERROR';
      return { outcome, status_code: r.status, total_ms: Date.now() - start, retry_after_ms: Number(r.headers.get('retry-after') ?? 0) * 1000 };
    } catch (e) {
      return { outcome: e.name === 'TimeoutError' ? 'OUTCOME_TIMEOUT' : 'OUTCOME_UNREACHABLE', total_ms: Date.now() - start };
    }
  }

  report(target, call) {
    const r = { target, reporter: this.name, ended_unix_ms: Date.now(), data_path: true, ...call };
    if (!this.nc.isClosed()) this.nc.publish(`redoubt.v1.report.${target}`, encode('OutcomeReport', r));
  }
}

// Everything that a stream holds now, oldest first: [{subject, id, type, seq, data}].
export async function readStream(nc, stream, filter) {
  const jsm = await nc.jetstreamManager();
  const ci = await jsm.consumers.add(stream, { deliver_policy: DeliverPolicy.All, ack_policy: AckPolicy.None, filter_subject: filter, inactive_threshold: 10e9 });
  const found = [];
  if (ci.num_pending > 0) {
    const c = await nc.jetstream().consumers.get(stream, ci.name);
    const messages = await c.consume();
    for await (const m of messages) {
      found.push({ subject: m.subject, id: m.headers?.get('ce-id'), type: m.headers?.get('ce-type'), seq: m.seq, data: m.data });
      if (m.info.pending === 0) break;
    }
  }
  void jsm.consumers.delete(stream, ci.name).catch(() => {}); // who may not is not waited for: it ends by itself
  return found;
}

// Every audit record of the stream, those of batches too.
export async function readAudit(nc) {
  const found = await readStream(nc, 'REDOUBT_AUDIT');
  return found.flatMap((m) => (m.type === 'redoubt.v1.AuditBatch' ? decode('AuditBatch', m.data).records : [decode('AuditRecord', m.data)]));
}
