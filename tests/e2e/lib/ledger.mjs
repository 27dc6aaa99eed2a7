// ledger.mjs - what was asked of a suite and what it has said, kept outside of it: who wants to know what was lost or done twice compares.
import { ceHeaders, decode, encode } from './contract.mjs';
import { readStream } from './agent.mjs';
import { pause } from './wait.mjs';

const SUBJECTS = { directive: 'Directive', breaker: 'BreakerChanged', health: 'HealthChanged', incident: 'IncidentChanged' };
// What has one epoch once; of an incident that is said by each leader for itself (proto/README.md).
const entity = { directive: (d) => [d.state.agent, d.state.epoch], breaker: (d) => [d.target, d.epoch], health: (d) => [d.target, d.epoch], incident: (d) => [`${d.id}/${d.fence}`, d.epoch] };

export class Ledger {
  // `nc` reads; `says` = {nc, service} raises alerts and appends records, in that service's name.
  constructor(nc, { says = { nc, service: 'test' }, alert_ms = 150, record_ms = 60 } = {}) {
    Object.assign(this, { nc, alert_ms, record_ms, service: says.service });
    this.js = says.nc.jetstream();
    this.alerts = new Map(); // id -> summary; acknowledged by the stream
    this.records = new Set(); // ids; acknowledged by the stream
    this.said = new Map(); // "<what>/<entity>/<epoch>" -> Set of documents
    this.highest = new Map(); // "<what>/<entity>" -> the highest epoch
    this.lower = []; // new documents under an epoch below it
    this.stopped = false;
  }

  start() {
    this.subs = Object.keys(SUBJECTS).map((what) => this.nc.subscribe(`redoubt.v1.${what}.>`, { callback: (e, m) => { if (!e) this.hear(what, m.data); } }));
    this.tasks = [this.raise(), this.append()];
  }

  async stop() {
    this.stopped = true;
    await Promise.all(this.tasks);
  }

  // Repeats are the same to the byte.
  hear(what, data) {
    const d = decode(SUBJECTS[what], data), [name, epoch] = entity[what](d);
    const key = `${what}/${name}`, text = Buffer.from(data).toString('base64');
    const known = this.said.get(`${key}/${epoch}`);
    if (known) return known.add(text);
    this.said.set(`${key}/${epoch}`, new Set([text]));
    if (epoch < (this.highest.get(key) ?? 0)) this.lower.push(`${key}: ${epoch} after ${this.highest.get(key)}`);
    this.highest.set(key, Math.max(epoch, this.highest.get(key) ?? 0));
    return undefined;
  }

  // To the stream, as often as it takes, under one id.
  async publish(subject, name, object) {
    for (;;) {
      try {
        await this.js.publish(subject, encode(name, object), { headers: ceHeaders(name, object.id, 'e2e'), msgID: object.id, timeout: 2000 });
        return true;
      } catch {
        if (this.stopped) return false;
        await pause(50);
      }
    }
  }

  async raise() {
    for (let n = 1; !this.stopped; n++) {
      const id = `ledger-a-${n}`, summary = `news ${id}.`;
      if (await this.publish('redoubt.v1.alert', 'Alert', { id, dedup_key: `ledger/${n}`, severity: ['SEVERITY_INFO', 'SEVERITY_WARNING', 'SEVERITY_HIGH'][n % 3], source: 'e2e', summary, raised_unix_ms: Date.now() }))
        this.alerts.set(id, summary);
      await pause(this.alert_ms);
    }
  }

  async append() {
    for (let n = 1; !this.stopped; n++) {
      const id = `ledger-r-${n}`;
      if (await this.publish(`redoubt.v1.audit.${this.service}`, 'AuditRecord', { id, at_unix_ms: Date.now(), at_mono_ns: n, service: this.service, instance: 'ledger-test-0', audit_class: 'AUDIT_CLASS_CONTINUITY',
        action: 'test.noted', actor: 'test', subject: 'thing', outcome: 'AUDIT_OUTCOME_DONE', detail: `number ${n}` })) this.records.add(id);
      await pause(this.record_ms);
    }
  }

  // What was said under one epoch in two ways.
  doubles() {
    return [...this.said].filter(([, texts]) => texts.size > 1).map(([key, texts]) => `${key} was used for ${texts.size} documents`);
  }

  // `told`: texts that people got, each {text, at}. Gives {lost: [id], twice: [{id, at: [...]}]}.
  people(told) {
    const lost = [], twice = [];
    for (const [id, summary] of this.alerts) {
      const times = told.filter((t) => t.text.includes(summary)).map((t) => t.at).toSorted((a, b) => a - b);
      if (times.length === 0) lost.push(id);
      if (times.length > 1) twice.push({ id, at: times });
    }
    return { lost, twice };
  }

  // Receipts by alert: id -> [{channel, status}].
  async receipts() {
    const of = new Map();
    for (const m of await readStream(this.nc, 'REDOUBT_EVENTS', 'redoubt.v1.delivery.>')) {
      const r = decode('DeliveryReceipt', m.data);
      of.set(r.alert_id, [...(of.get(r.alert_id) ?? []), r]);
    }
    return of;
  }

  // Alerts that people were told of although another one, under another id, had said the same of the same problem, with no end or beginning of it between.
  async repeated() {
    const found = [], open = new Map(), receipts = await this.receipts();
    for (const m of await readStream(this.nc, 'REDOUBT_ALERTS')) {
      const a = decode('Alert', m.data), text = `${a.severity} ${a.resolved} ${a.summary} ${a.actions_taken}`;
      if (!receipts.get(a.id)?.some((r) => r.status === 'DELIVERY_STATUS_ACCEPTED')) continue;
      const before = open.get(a.dedup_key);
      if (before && before.text === text && before.id !== a.id) found.push(`${a.dedup_key}: ${before.id} and ${a.id}: ${text}`);
      open.set(a.dedup_key, { text, id: a.id });
    }
    return found;
  }

  // Problems of which people heard something last that is not how they are: [{at, text}].
  async outdated() {
    const alerts = (await readStream(this.nc, 'REDOUBT_ALERTS')).map((m) => decode('Alert', m.data));
    const is = new Map(alerts.map((a) => [a.dedup_key, a])), of = new Map(alerts.map((a) => [a.id, a])), heard = new Map();
    const receipts = (await readStream(this.nc, 'REDOUBT_EVENTS', 'redoubt.v1.delivery.>')).map((m) => decode('DeliveryReceipt', m.data));
    for (const r of receipts.toSorted((x, y) => x.ended_unix_ms - y.ended_unix_ms)) {
      const a = of.get(r.alert_id);
      if (a && r.status === 'DELIVERY_STATUS_ACCEPTED') heard.set(a.dedup_key, { ...a, at: r.ended_unix_ms });
    }
    return [...heard].filter(([key, a]) => a.resolved !== is.get(key).resolved).map(([key, a]) => ({ at: a.at, summary: a.summary, text: `${key}: ${a.id} was heard last, ${is.get(key).id} is so` }));
  }

  // How many alerts are on the stream of which the alert service has not said that they are dealt with.
  async open() {
    const jsm = await this.nc.jetstreamManager();
    const { state } = await jsm.streams.info('REDOUBT_ALERTS');
    const list = await jsm.consumers.list('REDOUBT_ALERTS').next();
    return Math.max(...list.filter((c) => c.config.durable_name).map((c) => state.last_seq - c.ack_floor.stream_seq));
  }
}

// Of the segments of a trail: ids of its records, as often as they are there. `bytes`: one segment after the other.
export function idsOf(bytes) {
  const ids = [];
  for (let at = 112; at + 12 <= bytes.length;) {
    const n = bytes.readUInt32LE(at);
    ids.push(decode('AuditRecord', bytes.subarray(at + 12, at + 12 + n)).id);
    at += 12 + n + 32;
  }
  return ids;
}
