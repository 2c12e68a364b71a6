import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parse } from 'yaml';
import { readJsonl } from '../../lib/io';
import {
  evaluateCheckpoint,
  pretrain,
  readProbe,
  readSettings,
  type ProbeSettings,
  type RunConfig,
  type Settings,
} from '../../lib/train';
import { newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

const folder = join(__dirname, '../../recipes');
const files = readdirSync(folder).map((name) => join(folder, name));
const isProbe = (file: string) => basename(file).startsWith('linear-');

/** What makes a recipe's run tiny: two steps, one of the full network alone and one of all widths. */
function tiny(settings: Partial<Settings>, data: string): Partial<Settings> {
  const heads: Partial<Settings> = {};
  if (settings.method === 'moco-v3' || settings.method === 'simclr') Object.assign(heads, { dim: 8, mlpDim: 16 });
  if (settings.method === 'moco-v2') Object.assign(heads, { dim: 8, queue: 20 });
  return {
    ...heads,
    data,
    limit: 16,
    batch: 16,
    image: 32,
    baseWidth: 4,
    epochs: 2,
    slowStart: settings.slowStart === 0 ? 0 : 1,
    warmupEpochs: settings.warmupEpochs ? 0.5 : 0,
    evalEvery: 0,
    logEvery: 1,
    device: 'cpu',
  };
}

describe('recipes', function () {
  this.timeout(120_000);
  let data: string;
  before(async () => {
    data = await tinyPictures();
  });
  after(removeFolders);

  it('are those of the paper, and CIFAR-10 on a CPU and on a GPU', () => {
    expect(files.map((file) => basename(file))).to.include.members([
      'moco-v2-resnet50-200.yaml',
      'moco-v2-resnet50-800.yaml',
      'moco-v3-resnet50-300.yaml',
      'simclr-resnet50-100.yaml',
      'supervised-resnet50-100.yaml',
      'linear-moco-v2.yaml',
      'linear-moco-v3-simclr.yaml',
      'cifar10-cpu.yaml',
      'cifar10-gpu.yaml',
    ]);
  });

  for (const file of files.filter((file) => !isProbe(file))) {
    it(`${basename(file)} starts: two steps, and the recipe as it was run beside the results`, async () => {
      const settings = readSettings(file);
      const out = newFolder();
      const changes = tiny(settings, data);
      const result = await pretrain({ ...settings, ...changes }, { out });
      expect(result).to.include({ step: 2, interrupted: false });
      const lines = readJsonl(join(out, 'metrics.jsonl'));
      expect(lines.map((line) => Number.isFinite(line.loss))).to.deep.equal([true, true]);
      expect(Object.keys(lines[1].losses as object)).to.have.members(['1', '0.75', '0.5', '0.25']);
      const written = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')) as RunConfig;
      const { data: _, ...expected } = { ...settings, ...changes };
      expect(written).to.deep.include(expected);
    });

    it(`${basename(file)} says all that the run depends on`, () => {
      // Names as on the command line, so that a flag is found by its name in the file.
      const names = Object.keys(parse(readFileSync(file, 'utf8')) as object);
      expect(names.filter((name) => /[A-Z_]/.test(name))).to.deep.equal([]);
      expect(names).to.include.members([
        'method',
        'arch',
        'widths',
        'epochs',
        'slow-start',
        'batch',
        'optimizer',
        'lr',
      ]);
    });
  }

  describe('of a linear evaluation', () => {
    let checkpoint: string;
    before(async () => {
      ({ checkpoint } = await pretrain({ ...tinySettings(data), epochs: 1, slowStart: 0 }, { out: newFolder() }));
    });
    for (const file of files.filter(isProbe)) {
      it(`${basename(file)} starts`, async () => {
        const linear: ProbeSettings = { ...readProbe(file), epochs: 2, batch: 16 };
        const { accuracy } = await evaluateCheckpoint({ linear }, { checkpoint, data, device: 'cpu' });
        expect(accuracy).to.have.keys('1', '0.5');
      });
    }
  });
});
