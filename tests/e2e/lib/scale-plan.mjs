// scale-plan.mjs - what is scaled, killed and broken, and when: a list made of a seed, pure.
import { random } from './random.mjs';

// What can be away, and which of the town's parts that is.
export const OUTAGES = {
  'primary LLM': ['primary'],
  'both LLMs': ['primary', 'backup'],
  backend: ['backend'],
  'backend, primary': ['backend', 'primary'],
  chat: ['chat'],
};

// `most`: service -> replicas at most; one is always there. Gives {first, events}: first the replicas in the beginning, events of {n, service, kind: up|down|kill, from,
// to, after_ms, which, outage, hurry}, where `outage` is what is away while it happens ('' = nothing); after one with `hurry` the next follows at once.
export function plan(seed, n, most) {
  const draw = random(seed);
  const of = (list) => list[Math.floor(draw() * list.length)];
  const services = Object.keys(most);
  const has = Object.fromEntries(services.map((s) => [s, Math.min(most[s], 1 + Math.floor(draw() * 2))]));
  const first = { ...has };
  const events = [];
  let outage = '', left = 0;
  for (let i = 0; i < n; i++) {
    if (left-- <= 0) {
      outage = outage === '' || draw() < 0.3 ? of(Object.keys(OUTAGES).filter((o) => o !== outage)) : '';
      left = outage === '' ? 0 : Math.floor(draw() * 3);
    }
    // The first rounds give each service its turn; what is at its bound goes the other way.
    const service = i < services.length ? services[(i + seed) % services.length] : of(services);
    const can = ['kill', ...(has[service] < most[service] ? ['up', 'up'] : []), ...(has[service] > 1 ? ['down', 'kill'] : [])];
    const kind = of(can);
    const from = has[service];
    if (kind === 'up') has[service] = from + 1 + Math.floor(draw() * (most[service] - from));
    if (kind === 'down') has[service] = from - 1 - Math.floor(draw() * (from - 1));
    events.push({ n: i + 1, service, kind, from, to: has[service], after_ms: Math.floor(draw() * 1200), which: draw(), outage, hurry: draw() < 0.35 });
  }
  return { first, events };
}
