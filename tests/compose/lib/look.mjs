// look.mjs - what the kernel says of a project's processes: their memory, and where they listen.
import fs from 'node:fs';
import { command } from './engine.mjs';

const read = (file) => {
  try { return fs.readFileSync(file, 'utf8'); } catch { return ''; } // it has just ended
};
