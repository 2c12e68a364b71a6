import { expect } from 'chai';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';

const root = join(__dirname, '../..');

// What people write who have the package as a dependency, under stricter options than the project's own.
const consumer = `
import { Initializer, Module, SlimmableConv2d, evaluateKnn, globalAvgPool2d, readState, writeSafetensors } from 'slimclr';
import type { Pictures, SlimmableEncoder, Tensor } from 'slimclr';

export class Own extends Module implements SlimmableEncoder {
  readonly widths = [1, 0.5];
  readonly featureDims = [8, 4];
  private readonly conv = this.addModule('conv', new SlimmableConv2d(new Initializer(0), [3, 3], [8, 4], 3));
  features(x: Tensor, i: number): Tensor {
    return globalAvgPool2d(this.conv.forward(x, i));
  }
}
export async function save(file: string, own: Own, extra: Float32Array): Promise<void> {
  await writeSafetensors(file, await readState(own.stateDict()));
  await writeSafetensors(file, [['x', { dtype: 'F32', shape: [extra.length], data: extra }]]);
}
export const knn = (own: Own, pictures: Pictures): Promise<Record<string, number>> =>
  evaluateKnn(own, pictures, { recipe: 'cifar', image: 32, seed: 0, precision: 'fp32' }, 'cpu');
`;

describe('published types', function () {
  this.timeout(120_000);
  const folder = mkdtempSync(join(tmpdir(), 'slimclr-types-'));
  const at = join(folder, 'node_modules/slimclr');
  after(() => rmSync(folder, { recursive: true }));

  before(() => {
    const { options } = ts.parseJsonConfigFileContent({ extends: './tsconfig.build.json' }, ts.sys, root);
    const emit = { ...options, emitDeclarationOnly: true, outDir: join(at, 'dist') };
    expect(ts.createProgram([join(root, 'lib/index.ts')], emit).emit().emitSkipped).to.equal(false);
    writeFileSync(join(at, 'package.json'), readFileSync(join(root, 'package.json')));
    for (const name of ['zod', '@types'])
      symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  });

  it('fit code that builds on the package, and that of the README', () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8');
    const examples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code);
    const files = [consumer, ...examples].map((code, i) => {
      expect(code).to.include("from 'slimclr'");
      const file = join(folder, `consumer${i}.mts`);
      writeFileSync(file, code);
      return file;
    });
    expect(files.length).to.be.above(1);
    const program = ts.createProgram(files, {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.NodeNext,
      lib: ['lib.es2023.d.ts'],
      types: ['node'],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noEmit: true,
    });
    const found = ts.getPreEmitDiagnostics(program).map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n'));
    expect(found).to.deep.equal([]);
  });
});
