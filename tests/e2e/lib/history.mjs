// history.mjs - what clients of the breaker asked, what they were answered, and what was announced, with times on one clock.
import { decode, encode } from './contract.mjs';

// performance.now() never steps, and all clients are in this process.
export const now = () => performance.now();

export class History {
  constructor() {
    this.ops = []; // {client, target, verb, by, call, ret, status, epoch, state, permit, source, doc}
    this.seen = []; // {target, epoch, doc, at}
  }

  // Follows every announcement; gives an end to it.
  follow(nc) {
    const sub = nc.subscribe('redoubt.v1.breaker.>', {
      callback: (e, m) => { if (!e) this.take(decode('BreakerChanged', m.data)); },
    });
    return () => sub.unsubscribe();
  }

  take(doc) {
    this.seen.push({ target: doc.target, epoch: doc.epoch, doc, at: now() });
  }

  // One request and its answer. Without an answer it may have had its effect at any time after the call: `ret` stays Infinity.
  async ask(nc, op, type, message, answer, limit_ms) {
    const o = { ...op, call: now(), ret: Infinity, status: 'UNKNOWN' };
    this.ops.push(o);
    try {
      const m = await nc.request(`redoubt.v1.cmd.breaker.${o.verb}`, encode(type, message), { timeout: limit_ms, noMux: false });
      const reply = decode(answer, m.data);
      o.ret = now();
      o.source = m.headers?.get('ce-source');
      o.epoch = reply.epoch;
      return [o, reply];
    } catch {
      return [o, null];
    }
  }

  async allow(nc, client, target, holder, limit_ms = 1500) {
    const [o, reply] = await this.ask(nc, { client, target, verb: 'allow', by: holder }, 'AllowRequest', { target, holder }, 'AllowReply', limit_ms);
    if (reply) Object.assign(o, { status: reply.admitted ? 'ADMITTED' : 'REFUSED', state: reply.state, permit: reply.permit_id });
    return o;
  }

  async show(nc, client, target, limit_ms = 1500) {
    const [o, reply] = await this.ask(nc, { client, target, verb: 'show', by: '' }, 'BreakerCommand', { target }, 'CommandReply', limit_ms);
    if (reply) {
      o.status = reply.status;
      if (reply.payload.length) {
        o.doc = decode('BreakerChanged', reply.payload);
        o.state = o.doc.state;
      }
    }
    return o;
  }

  async order(nc, client, target, verb, by, duration_ms, limit_ms = 1500) {
    const [o, reply] = await this.ask(nc, { client, target, verb, by }, 'BreakerCommand', { target, by, reason: 'a test', duration_ms }, 'CommandReply', limit_ms);
    if (reply) o.status = reply.status;
    return o;
  }
}
