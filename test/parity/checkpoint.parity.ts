import { expect } from 'chai';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { readSafetensors } from '../../lib/io';
import { noGrad, scope } from '../../lib/tensor';
import { importCheckpoint, loadEncoder } from '../../lib/train';
import { expectNear } from './compare';
import { Golden, goldenFiles, parityTests } from './goldens';

const TOLERANCE = 1e-4;

// Each NAME.pth.tar (or NAME.legacy.pth.tar) stands beside NAME.expected.safetensors: what the released code computes with it.
parityTests('checkpoint', goldenFiles('checkpoint', '.pth.tar'), async (file) => {
  const name = basename(file).replace(/(\.legacy)?\.pth\.tar$/, '');
  const { metadata, tensors } = await readSafetensors(join(dirname(file), `${name}.expected.safetensors`));
  const golden = new Golden(name, metadata, tensors);

  const folder = mkdtempSync(join(tmpdir(), 'slimclr-import-'));
  const imported = join(folder, 'imported.safetensors');
  try {
    const { options } = await importCheckpoint(file, imported);
    expect(options).to.include({
      head: metadata.head,
      outDim: golden.json('dim'),
      baseWidth: golden.json('base_width'),
    });
    expect(options.widths).to.deep.equal(golden.json('widths'));

    const { encoder } = await loadEncoder(imported);
    const x = golden.tensor('x');
    for (const [i, width] of encoder.widths.entries()) {
      const y = scope(() => noGrad(() => ({ features: encoder.features(x, i), embedding: encoder.forward(x, i) })));
      for (const what of ['features', 'embedding'] as const) {
        await expectNear(`${what}.${width}`, y[what], golden.values(`${what}.${width}`), TOLERANCE);
        y[what].dispose();
      }
    }
    x.dispose();
    encoder.dispose();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
