// trail.mjs - trails made by the real service: records on the stream AUDIT in, directories out.
import fs from 'node:fs';
import path from 'node:path';
import { StringCodec } from 'nats';
import { ceHeaders, encode } from './contract.mjs';
import { Stack } from './stack.mjs';
import { until } from './wait.mjs';

let made = 0;
export function record(fields) {
  made++;
  return { id: `made-${made}`, at_unix_ms: Date.now(), at_mono_ns: made, service: 'test', instance: 'host-test-0', audit_class: 'AUDIT_CLASS_CONTINUITY',
    action: 'test.made', actor: 'test', subject: 'thing', outcome: 'AUDIT_OUTCOME_DONE', detail: `number ${made}`, ...fields };
}

// A suite that is the audit service alone (or several replicas of it).
export class TrailStack {
  constructor(name, settings = '', replicas = 1) {
    this.stack = new Stack(name);
    this.settings = settings;
    this.replicas = replicas;
    this.sent = 0;
  }

  async open() {
    const s = this.stack;
    await s.start(typeof this.settings === 'function' ? this.settings(s) : this.settings, { services: ['audit'] });
    this.nc = await s.nats('test');
    this.js = this.nc.jetstream();
    const jsm = await this.nc.jetstreamManager();
    await until('the stream', () => jsm.streams.info('REDOUBT_AUDIT').then(() => true, () => false), 30000);
    for (let i = 1; i < this.replicas; i++) {
      s.define(`audit-${i}`, s.procs.get('audit').command, s.procs.get('audit').args);
      s.run(`audit-${i}`);
    }
    for (let i = 0; i < this.replicas; i++)
      await until(`replica ${i}'s trail`, () => fs.existsSync(path.join(this.dir(i), 'checkpoint')), 30000);
    return this;
  }

  dir(i = 0) {
    return path.join(this.stack.dir, 'data/audit', String(i));
  }

  async publish(records) {
    await Promise.all(records.map((r) => this.js.publish(`redoubt.v1.audit.${r.service}`, encode('AuditRecord', r),
      { headers: ceHeaders('AuditRecord', r.id, 'test'), timeout: 20000 })));
    this.sent += records.length;
  }

  // The same record once more, as another message.
  async publishAs(r, id) {
    await this.js.publish(`redoubt.v1.audit.${r.service}`, encode('AuditRecord', r), { headers: ceHeaders('AuditRecord', id, 'test'), timeout: 20000 });
  }

  // Until so many bytes of segments were there and the stream's consumer has nothing left to acknowledge.
  async settled() {
    const jsm = await this.nc.jetstreamManager();
    await until('every record to be acknowledged', async () => {
      const list = await jsm.consumers.list('REDOUBT_AUDIT').next();
      return list.length > 0 && list.every((c) => c.num_pending === 0 && c.num_ack_pending === 0);
    }, 30000);
  }

  async ask(verb, name, object) {
    const reply = await this.nc.request(`redoubt.v1.cmd.audit.${verb}`, name ? encode(name, object) : StringCodec().encode(''),
      { timeout: 10000, headers: name ? ceHeaders(name, `ask-${made++}`, 'test') : undefined });
    return reply.data;
  }

  async close() {
    for (const name of this.stack.procs.keys()) if (name.startsWith('audit-') && this.stack.running(name)) await this.stack.kill(name, 'SIGTERM');
    await this.stack.stop();
  }

  async dispose() {
    await this.stack.dispose();
  }
}

export async function withTrail(name, settings, body, replicas = 1) {
  const t = new TrailStack(name, settings, replicas);
  try {
    await t.open();
    return await body(t);
  } catch (e) {
    e.message += `\n${t.stack.tails()}`;
    throw e;
  } finally {
    await t.dispose();
  }
}

export function segments(dir) {
  return fs.readdirSync(dir).filter((f) => /^audit-\d{20}\.seg$/.test(f)).sort();
}

// RFC 4180, strictly: rows of cells.
export function csv(text) {
  const rows = [];
  let row = [], at = 0;
  while (at < text.length) {
    let cell = '';
    if (text[at] === '"') {
      for (at++; ; at++) {
        if (at >= text.length) throw new Error('a quoted cell has no end');
        if (text[at] !== '"') cell += text[at];
        else if (text[at + 1] === '"') cell += text[at++];
        else break;
      }
      at++;
    } else {
      while (at < text.length && text[at] !== ',' && text[at] !== '\r' && text[at] !== '\n') {
        if (text[at] === '"') throw new Error('a quote within a plain cell');
        cell += text[at++];
      }
    }
    row.push(cell);
    if (text[at] === ',') at++;
    else if (text.startsWith('\r\n', at)) {
      at += 2;
      rows.push(row);
      row = [];
    } else throw new Error(`no comma and no line end at ${at}`);
  }
  if (row.length) throw new Error('the last line has no end');
  return rows;
}

// As objects, by the names of the first row.
export function table(text) {
  const [head, ...rows] = csv(text);
  return rows.map((r) => {
    if (r.length !== head.length) throw new Error(`a row of ${r.length} cells, not ${head.length}`);
    return Object.fromEntries(head.map((h, i) => [h, r[i]]));
  });
}
