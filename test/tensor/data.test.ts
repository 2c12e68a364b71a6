import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { tensor } from '../../lib/tensor';

const addon = process.env['SLIMCLR_ADDON'] || join(__dirname, '../../build/Release/slimclr.node');

describe('data of tensors', () => {
  it('is not taken from memory that other threads may write', () => {
    const shared = new Float32Array(new SharedArrayBuffer(8));
    expect(() => tensor(shared, [2])).to.throw(TypeError, /^\[fromData\] .*SharedArrayBuffer; copy it with slice\(\)$/);
    const copy = tensor(shared.slice(), [2]);
    expect(() => copy.copyFrom(shared)).to.throw(TypeError, /^\[copyFrom\] .*SharedArrayBuffer/);
    copy.dispose();
  });

  it('is an error, not the end of the process, where JavaScript has no memory for it', () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [
        '-e',
        `const Real = ArrayBuffer;
         let full = true;
         globalThis.ArrayBuffer = function (bytes) {
           if (full) throw new RangeError('Array buffer allocation failed');
           return new Real(bytes);
         };
         const native = require(${JSON.stringify(addon)});
         const t = native.zeros([3], 'float32', 'cpu');
         for (const read of [native.read, native.readSync]) {
           try { read(t); } catch (error) { console.log(error.name, error.message); }
         }
         full = false;
         console.log(native.readSync(t).join());`,
      ],
      { encoding: 'utf8' },
    );
    expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    const told = 'out of memory: no 12 bytes for a copy in JavaScript; read less at a time';
    expect(stdout.trim().split('\n')).to.deep.equal([
      `RangeError [read] ${told}`,
      `RangeError [readSync] ${told}`,
      '0,0,0',
    ]);
  });
});
