// linear.mjs - is a recorded history of the breaker linearizable? Gives the list of what is wrong; empty = it is.
//
// A search (as Wing and Gong's) is not needed, because the order is given: a change carries its epoch, and epochs are the order of
// changes. What remains to be shown is that this order fits real time. Let call(e) be when the request that made epoch e was sent (for changes
// that no client asked for: any time), and seen(e) the first moment when anybody knew epoch e or a later one. The change took effect at
// some point p(e) with call(e) <= p(e) <= seen(e), and p must grow with e. Such points exist exactly if for every e
//
//     max { call(f) : f <= e }  <=  seen(e):
//
// taking the left side as p(e) gives growing points, each within its bounds; and where it fails, some f <= e was asked for after e was known.
// So an order that was answered before another was sent has the smaller epoch.
//
// Reads are of two kinds. Orders answered ALREADY were decided on a fresh document: one of those that were valid between request and answer must be in
// that state. `show` and `allow` without a permit answer from a replica's memory and promise less: a document that exists, word for
// word, and for one replica never an older one than before.

const OK = 'COMMAND_STATUS_OK', ALREADY = 'COMMAND_STATUS_ALREADY';
const WANTED = { open: 'BREAKER_STATE_FORCED_OPEN', close: 'BREAKER_STATE_FORCED_CLOSED', metrics: 'BREAKER_STATE_METRICS_ONLY', reset: 'BREAKER_STATE_CLOSED' };
const BY_PERSON = 'BREAKER_REASON_OPERATOR';

// Objects that say the same are the same text, whatever the order of their fields.
function canonical(x) {
  if (x === null || typeof x !== 'object') return JSON.stringify(x);
  if (Array.isArray(x)) return `[${x.map(canonical).join()}]`;
  return `{${Object.keys(x).sort().map((k) => `${k}:${canonical(x[k])}`).join()}}`;
}

export function check(history) {
  const targets = new Set([...history.seen, ...history.ops].map((x) => x.target));
  return [...targets].flatMap((t) => checkTarget(t, history.seen.filter((x) => x.target === t), history.ops.filter((x) => x.target === t)));
}

function checkTarget(target, seen, ops) {
  const wrong = [];
  const say = (text) => wrong.push(`${target}: ${text}`);
  const docs = documents(seen, ops, say);
  checkSteps(docs, say);
  checkPermits(docs, ops, say);
  const made = attribute(docs, ops, say);
  checkOrder(made, seen, ops, say);
  checkReads(docs, seen, ops, say);
  return wrong;
}

// Each epoch, one document.
function documents(seen, ops, say) {
  const docs = new Map();
  for (const doc of [...seen.map((x) => x.doc), ...ops.map((o) => o.doc).filter(Boolean)]) {
    const had = docs.get(doc.epoch);
    if (!had) docs.set(doc.epoch, doc);
    else if (canonical(had) !== canonical(doc)) say(`epoch ${doc.epoch} stands for two documents: ${had.state} and ${doc.state}`);
  }
  return docs;
}

// Two that follow each other. An epoch that was never announced (its replica died, and the next change came first) leaves a gap.
function checkSteps(docs, say) {
  for (const [epoch, b] of docs) {
    const a = docs.get(epoch - 1);
    if (!a) continue;
    if (b.previous !== a.state) say(`epoch ${epoch} comes from ${b.previous}, but epoch ${epoch - 1} is ${a.state}`);
    if (b.changed_unix_ms < a.changed_unix_ms) say(`epoch ${epoch} was made before epoch ${epoch - 1}`);
    if (a.state === b.state && a.until_unix_ms > 0 && b.until_unix_ms !== 0 && b.until_unix_ms < a.until_unix_ms)
      say(`epoch ${epoch}: the deadline moves earlier`);
  }
}

// One at a time: the next one is given out only when the last is over, or its trial is.
function checkPermits(docs, ops, say) {
  let last = null, before = 0;
  for (const b of [...docs.values()].sort((x, y) => x.epoch - y.epoch)) {
    const id = b.permit?.id ?? 0, expires = b.state === 'BREAKER_STATE_HALF_OPEN' ? b.permit?.expires_unix_ms ?? 0 : 0;
    if (last && id < last.id) say(`epoch ${b.epoch}: permit ${id} after ${last.id}`);
    if (last && id > last.id && b.epoch === before + 1 && last.expires > b.changed_unix_ms)
      say(`epoch ${b.epoch}: permit ${id} is given out while permit ${last.id} is`);
    last = { id, expires };
    before = b.epoch;
  }
  const given = new Map();
  for (const o of ops.filter((x) => x.permit > 0)) {
    if (given.has(o.permit)) say(`permit ${o.permit} was given to ${given.get(o.permit)} and to ${o.by}`);
    given.set(o.permit, o.by);
    const grants = [...docs.values()].filter((b) => b.permit?.id === o.permit && b.permit.holder);
    for (const b of grants) if (b.permit.holder !== o.by) say(`permit ${o.permit} is ${b.permit.holder}'s, but was given to ${o.by}`);
  }
}

// Which request made which epoch: epoch -> op. Orders are known by who gave them, permits by their holder; `reset` leaves no name, so
// those are matched: each that was answered OK needs an epoch of its own.
function attribute(docs, ops, say) {
  const made = new Map();
  const all = [...docs.values()].sort((x, y) => x.epoch - y.epoch);
  const complete = all.length > 0 && all.at(-1).epoch - all[0].epoch + 1 === all.length;
  const named = new Map();
  for (const b of all.filter((x) => x.reason === BY_PERSON && x.forced_by)) {
    if (named.has(b.forced_by)) say(`the order of ${b.forced_by} was carried out twice: epochs ${named.get(b.forced_by)} and ${b.epoch}`);
    named.set(b.forced_by, b.epoch);
  }
  for (const o of ops.filter((x) => WANTED[x.verb] && x.verb !== 'reset')) {
    const epoch = named.get(o.by);
    if (epoch !== undefined) made.set(epoch, o);
    if (epoch === undefined && o.status === OK && complete) say(`the order of ${o.by} was answered OK, but no epoch is its`);
    if (epoch !== undefined && o.status !== OK && o.status !== 'UNKNOWN' && o.status !== 'COMMAND_STATUS_UNAVAILABLE')
      say(`the order of ${o.by} was answered ${o.status}, but made epoch ${epoch}`);
    if (epoch !== undefined && o.status === OK && epoch > o.epoch) say(`the order of ${o.by} was answered with epoch ${o.epoch}, but made ${epoch}`);
  }
  for (const o of ops.filter((x) => x.permit > 0)) {
    const b = all.find((x) => x.permit?.id === o.permit && x.permit.holder === o.by);
    if (b) made.set(b.epoch, o);
    else if (complete) say(`permit ${o.permit} was given to ${o.by}, but no epoch says so`);
  }
  matchResets(all.filter((b) => b.reason === BY_PERSON && !b.forced_by), ops.filter((o) => o.verb === 'reset'), complete, made, say);
  return made;
}

// A matching of resets with the epochs that they may have made: after what was known when they were sent, up to what they were answered with.
function matchResets(epochs, resets, complete, made, say) {
  const may = (o, b) => (o.status !== OK || b.epoch <= o.epoch) && (o.known ?? 0) < b.epoch;
  const holder = new Map(); // epoch -> op
  const place = (o, tried) => {
    for (const b of epochs) {
      if (tried.has(b.epoch) || !may(o, b)) continue;
      tried.add(b.epoch);
      const other = holder.get(b.epoch);
      if (!other || place(other, tried)) {
        holder.set(b.epoch, o);
        return true;
      }
    }
    return false;
  };
  for (const o of resets.filter((x) => x.status === OK))
    if (!place(o, new Set()) && complete) say(`the reset of ${o.by} was answered OK with epoch ${o.epoch} after ${o.known ?? 0}, but no epoch is its`);
  for (const o of resets.filter((x) => x.status === 'UNKNOWN' || x.status === 'COMMAND_STATUS_UNAVAILABLE')) place(o, new Set());
  for (const b of epochs) if (!holder.has(b.epoch)) say(`nobody has asked for the reset of epoch ${b.epoch}`);
  for (const [epoch, o] of holder) made.set(epoch, o);
}

// When each epoch was known for the first time, it or a later one; from the highest down.
function firstSeen(seen, ops) {
  const at = new Map();
  const note = (epoch, t) => at.set(epoch, Math.min(at.get(epoch) ?? Infinity, t));
  for (const x of seen) note(x.epoch, x.at);
  for (const o of ops) if (o.epoch > 0 && o.ret < Infinity) note(o.epoch, o.ret);
  let best = Infinity;
  for (const epoch of [...at.keys()].sort((a, b) => b - a)) {
    best = Math.min(best, at.get(epoch));
    at.set(epoch, best);
  }
  return at;
}

function checkOrder(made, seen, ops, say) {
  const at = firstSeen(seen, ops);
  const epochs = [...new Set([...at.keys(), ...made.keys()])].sort((a, b) => a - b);
  let latest = null; // the request sent last of those that made an epoch up to here
  // seen() of an epoch that only `made` knows is that of the next known one.
  let next = Infinity;
  const until = new Map();
  for (const e of [...epochs].reverse()) until.set(e, (next = Math.min(next, at.get(e) ?? Infinity)));
  for (const e of epochs) {
    const o = made.get(e);
    if (o && (!latest || o.call > latest.call)) latest = { call: o.call, by: o.by, epoch: e };
    if (latest && latest.call > until.get(e))
      say(`${latest.by} made epoch ${latest.epoch}, but epoch ${e} or a later one was known before it asked`);
  }
}

// The highest epoch that anybody knew before `t`.
function knownBefore(seen, ops, t) {
  let best = 0;
  for (const x of seen) if (x.at < t && x.epoch > best) best = x.epoch;
  for (const o of ops) if (o.ret < t && o.epoch > best) best = o.epoch;
  return best;
}

function checkReads(docs, seen, ops, say) {
  for (const o of ops.filter((x) => x.state && x.epoch > 0)) {
    const b = docs.get(o.epoch);
    if (b && b.state !== o.state) say(`${o.verb} for ${o.client} was answered with epoch ${o.epoch} as ${o.state}; it is ${b.state}`);
  }
  const bySource = new Map();
  for (const o of ops.filter((x) => (x.verb === 'show' || x.verb === 'allow') && x.source && x.epoch > 0))
    bySource.set(o.source, [...(bySource.get(o.source) ?? []), o]);
  for (const [source, reads] of bySource) {
    reads.sort((a, b) => a.call - b.call);
    const returned = [...reads].sort((a, b) => a.ret - b.ret);
    let i = 0, best = 0;
    for (const o of reads) {
      for (; i < returned.length && returned[i].ret < o.call; i++) best = Math.max(best, returned[i].epoch);
      if (o.epoch < best) say(`${source} answered ${o.client} with epoch ${o.epoch} after it had answered with ${best}`);
    }
  }
  for (const o of ops.filter((x) => x.status === ALREADY)) {
    const from = knownBefore(seen, ops, o.call);
    let found = false, gap = false;
    for (let e = from; e <= o.epoch; e++) {
      if (!docs.has(e)) gap = true;
      else if (docs.get(e).state === WANTED[o.verb]) found = true;
    }
    if (o.epoch < from) say(`${o.by} was answered ALREADY by epoch ${o.epoch}, but ${from} was known before it asked`);
    else if (!found && !gap) say(`${o.by} was answered ALREADY, but it was never so between epochs ${from} and ${o.epoch}`);
  }
}

// Notes what was known when each reset was sent; needed before check().
export function prepare(history) {
  const { seen, ops } = history;
  for (const o of ops.filter((x) => x.verb === 'reset'))
    o.known = knownBefore(seen.filter((x) => x.target === o.target), ops.filter((x) => x.target === o.target), o.call);
  return history;
}
