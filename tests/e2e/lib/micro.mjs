// micro.mjs - the NATS service protocol as a stranger uses it: who is there, and what they count.
import { createInbox, Empty, JSONCodec } from 'nats';
import { pause } from './wait.mjs';

const json = JSONCodec();

// All answers to one question within `ms`.
export async function ask(nc, subject, ms = 500) {
  const inbox = createInbox();
  const found = [];
  const sub = nc.subscribe(inbox, { callback: (e, m) => { if (!e && m.data.length) found.push(json.decode(m.data)); } });
  nc.publish(subject, Empty, { reply: inbox });
  await pause(ms);
  sub.unsubscribe();
  return found;
}

// One metric of one service, summed over its replicas; 0 if it was never counted.
export async function metric(nc, service, name) {
  const stats = await ask(nc, `$SRV.STATS.redoubt-${service}`);
  const find = (o) => {
    if (o === null || typeof o !== 'object') return undefined;
    if (typeof o[name] === 'number') return o[name];
    for (const v of Object.values(o)) {
      const n = find(v);
      if (n !== undefined) return n;
    }
    return undefined;
  };
  return stats.reduce((sum, s) => sum + (find(s) ?? 0), 0);
}
