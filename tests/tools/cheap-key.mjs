// cheap-key.mjs - puts the keys of a local restic repository under a scrypt of next to no cost, given the words that restic was called with.
// The format is restic's own (its "Design" document, Keys, Encryption and MAC): AES-256-CTR, and Poly1305-AES over what it gives.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const COST = { N: 16, r: 1, p: 1 };
const P = (1n << 130n) - 5n, CLAMP = 0x0ffffffc0ffffffc0ffffffc0fffffffn;

const option = (...names) => process.argv.map((a, i, all) => (names.includes(a) ? all[i + 1] : names.map((n) => a.startsWith(`${n}=`) && a.slice(n.length + 1)).find(Boolean))).find(Boolean);
const repository = option('-r', '--repo') ?? process.env.RESTIC_REPOSITORY;
const file = option('-p', '--password-file') ?? process.env.RESTIC_PASSWORD_FILE;
if (!repository || !file || !fs.existsSync(path.join(repository, 'keys'))) process.exit(0); // not a local one
const password = fs.readFileSync(file, 'utf8').trim();

const number = (bytes) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex') || '0'}`);

function poly1305(text, r, s) {
  let sum = 0n;
  for (let i = 0; i < text.length; i += 16) {
    const block = text.subarray(i, i + 16);
    sum = ((sum + number(block) + (1n << BigInt(8 * block.length))) * (number(r) & CLAMP)) % P;
  }
  return Buffer.from(((sum + number(s)) % (1n << 128n)).toString(16).padStart(32, '0'), 'hex').reverse();
}

// The keys that a password gives: one to encrypt, two to authenticate.
function derived(salt, { N, r, p }) {
  const k = crypto.scryptSync(password, salt, 64, { N, r, p, maxmem: 1 << 30 });
  return { aes: k.subarray(0, 32), k: k.subarray(32, 48), r: k.subarray(48, 64) };
}

function seal(key, plain) {
  const iv = crypto.randomBytes(16), aes = crypto.createCipheriv('aes-256-ctr', key.aes, iv), one = crypto.createCipheriv('aes-128-ecb', key.k, null);
  const text = Buffer.concat([aes.update(plain), aes.final()]);
  return Buffer.concat([iv, text, poly1305(text, key.r, one.update(iv))]);
}

function open(key, bytes) {
  const aes = crypto.createDecipheriv('aes-256-ctr', key.aes, bytes.subarray(0, 16));
  return Buffer.concat([aes.update(bytes.subarray(16, -16)), aes.final()]);
}

for (const name of fs.readdirSync(path.join(repository, 'keys'))) {
  const at = path.join(repository, 'keys', name), key = JSON.parse(fs.readFileSync(at, 'utf8'));
  const plain = open(derived(Buffer.from(key.salt, 'base64'), { N: key.N, r: key.r, p: key.p }), Buffer.from(key.data, 'base64'));
  const salt = crypto.randomBytes(64);
  const text = JSON.stringify({ ...key, ...COST, salt: salt.toString('base64'), data: seal(derived(salt, COST), plain).toString('base64') });
  fs.writeFileSync(path.join(repository, 'keys', crypto.createHash('sha256').update(text).digest('hex')), text, { mode: 0o600 });
  fs.rmSync(at);
}
