// nonsense.mjs - bytes that no reader may choke on.
export function nonsense(valid) {
  const noise = Buffer.alloc(300);
  for (let i = 0, x = 12345; i < noise.length; i++) { x = (x * 1103515245 + 12345) & 0x7fffffff; noise[i] = x >> 16; }
  return {
    empty: Buffer.alloc(0),
    noise,
    truncated: valid.subarray(0, Math.max(1, valid.length - 3)),
    'endless varint': Buffer.alloc(64, 0xff),
    'huge length': Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 0x41]),
    'NUL in a string': Buffer.from([0x0a, 0x03, 0x61, 0x00, 0x62]),
    'not UTF-8': Buffer.from([0x0a, 0x02, 0xc3, 0x28]),
    oversized: Buffer.concat([valid, Buffer.from([0x7a, 0x80, 0x80, 0x08]), Buffer.alloc(131072, 0x41)]),
    json: Buffer.from('{"target":"llm.sim.primary"}'),
  };
}
