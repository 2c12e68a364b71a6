import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(__dirname, '../..');

function checkFloors(folder: string): { status: number | null; problems: string } {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts/check-floors.js'), folder], {
    encoding: 'utf8',
  });
  return { status, problems: stderr };
}

describe('floors', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'slimclr-floors-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  function write(name: string, text: string): void {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }

  it('hold in this repository', () => {
    const { status, problems } = checkFloors(root);
    expect(problems).to.equal('');
    expect(status).to.equal(0);
  });

  it('let a folder import from below and from itself', () => {
    write('lib/index.ts', "export * from './cli/main';\nexport * from './nn';");
    write('lib/nn/conv.ts', "import { a } from '../tensor';\nimport { b } from './init';");
    write('lib/cli/main.ts', "const run = await import('../train/run');\nimport '../tensor/scope';");
    write('lib/tensor/index.ts', "import { native } from '../native';");
    write('lib/native.ts', "import type { NativeAddon } from './native-addon';");
    write('native/core/tensor.h', '#include <vector>\n#include "core/dtype.h"');
    write('native/core/dtype.h', '');
    write('native/core/philox.h', '');
    write('native/cpu/conv.cpp', '#include <dnnl.hpp>\n#include "core/tensor.h"\n#include "cpu/kernels/vec.h"');
    write('native/cpu/kernels/vec.h', '#include "core/philox.h"');
    write('native/addon/args.h', '#include <napi.h>\n#include "core/tensor.h"');
    expect(checkFloors(folder)).to.deep.equal({ status: 0, problems: '' });
  });

  const violations: { what: string; file: string; text: string; line: number }[] = [
    { what: 'an import from above', file: 'lib/tensor/x.ts', text: "\nimport { a } from '../nn/conv';", line: 2 },
    { what: 'an import from the same height', file: 'lib/nn/x.ts', text: "import type { A } from '../io';", line: 1 },
    { what: 'a re-export from above', file: 'lib/data/x.ts', text: "export * from '../train/run';", line: 1 },
    { what: 'a dynamic import', file: 'lib/io/x.ts', text: "\n\nvoid import('../cli/main');", line: 3 },
    { what: 'a require', file: 'lib/optim/x.ts', text: "require('../methods/moco-v2');", line: 1 },
    { what: 'an import of index.ts', file: 'lib/train/x.ts', text: "import { a } from '../index';", line: 1 },
    { what: 'an import from outside lib', file: 'lib/train/x.ts', text: "import a from '../../bench/a';", line: 1 },
    { what: 'a file beside the floors', file: 'lib/helpers.ts', text: '', line: 1 },
    { what: 'an include from above', file: 'native/core/x.cpp', text: '#include "cpu/conv.h"', line: 1 },
    { what: 'a relative include from above', file: 'native/core/x.h', text: '\n#include "../addon/args.h"', line: 2 },
    { what: 'a backend in the binding', file: 'native/addon/x.cpp', text: '#include "cpu/conv.h"', line: 1 },
    { what: 'core in a kernel', file: 'native/cpu/kernels/x.h', text: '#include "core/tensor.h"', line: 1 },
    { what: 'oneDNN outside cpu', file: 'native/core/x.h', text: '#include <oneapi/dnnl/dnnl.hpp>', line: 1 },
    { what: 'Node-API outside addon', file: 'native/cpu/x.cpp', text: '#include <napi.h>', line: 1 },
    { what: 'CUDA outside cuda', file: 'native/core/x.cpp', text: '#include <cuda_runtime.h>', line: 1 },
  ];
  for (const { what, file, text, line } of violations) {
    it(`report ${what} by file and line`, () => {
      for (const header of ['cpu/conv.h', 'addon/args.h', 'core/tensor.h']) write(`native/${header}`, '');
      write(file, text);
      const { status, problems } = checkFloors(folder);
      expect(problems).to.match(new RegExp(`^${file}:${line}: `));
      expect(status).to.equal(1);
    });
  }
});
