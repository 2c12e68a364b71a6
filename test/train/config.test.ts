import { expect } from 'chai';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DISTILLATIONS, LOSS_WEIGHTINGS } from '../../lib/methods';
import { ARCHITECTURES, HEADS } from '../../lib/nn';
import { ConfigError, readSettings, resolveConfig, type Settings } from '../../lib/train/config';
import { settingsSchema } from '../../lib/train/config';
import { newFolder, removeFolders } from './tiny-run';

describe('settings', () => {
  after(removeFolders);

  const file = (name: string, text: string): string => {
    const path = join(newFolder(), name);
    writeFileSync(path, text);
    return path;
  };
  const wrong = (settings: object, side = 32) =>
    expect(() => resolveConfig({ data: 'd', ...settings }, side)).to.throw(ConfigError);

  it('offer the architectures, heads, distillations and loss weights that there are', () => {
    expect(settingsSchema.shape.arch.unwrap().options).to.have.members(Object.keys(ARCHITECTURES));
    expect(settingsSchema.shape.head.unwrap().options).to.have.members(HEADS);
    expect(settingsSchema.shape.distill.unwrap().options).to.have.members(DISTILLATIONS);
    expect([...settingsSchema.shape.lossWeights.unwrap().values]).to.have.members([...LOSS_WEIGHTINGS]);
  });

  it('take the defaults of the method', () => {
    const of = (settings: Partial<Settings>, side = 256) => resolveConfig({ data: 'd', ...settings }, side, 10);
    expect(of({})).to.include({ recipe: 'mocov2', head: 'mocov2_slim', dim: 128, mlpDim: 0, temperature: 0.2 });
    expect(of({})).to.include({ teacherTemperature: 5, studentTemperature: 5, encoderMomentum: 0.999 });
    const v3 = of({ method: 'moco-v3', arch: 'resnet50' });
    expect(v3).to.include({ recipe: 'mocov3', head: 'mocov3_slim', dim: 256, mlpDim: 4096, temperature: 1 });
    expect(v3).to.include({ teacherTemperature: 1, studentTemperature: 1, encoderMomentum: 0.99 });
    const simclr = of({ method: 'simclr', arch: 'resnet50' });
    expect(simclr).to.include({ recipe: 'simclr', head: 'simclr_slim', dim: 128, mlpDim: 2048, temperature: 0.1 });
    expect(simclr).to.include({ teacherTemperature: 5, studentTemperature: 5 });
    const supervised = of({ method: 'supervised' });
    expect(supervised).to.include({ recipe: 'normal', head: 'supervised_switch', dim: 10, labelSmoothing: 0.1 });
    expect(of({ method: 'simclr', mlpDim: 64 }, 32)).to.include({ recipe: 'cifar', mlpDim: 64 });
  });

  for (const [settings, error] of [
    [{ head: 'simclr_slim' }, /head of method moco-v2: expected mocov2_slim or mocov2_switch, received simclr_slim/],
    [{ method: 'moco-v3', mlpDim: 0 }, /mlpDim of method moco-v3: expected at least 1, received 0/],
    [{ mlpDim: 64 }, /mlpDim of method moco-v2: expected 0, received 64/],
    [{ method: 'simclr', symmetric: true }, /symmetric and batchNormSplits are for method moco-v2, received simclr/],
    [{ batch: 16, accumulate: 2, batchNormSplits: 5 }, /at least 2 pictures in each group, received 5 for 8 pictures/],
    [{ method: 'supervised', distill: 'kd-features' }, /distill kd-features compares embeddings/],
    [{ symmetric: 'yes' }, /symmetric: expected true or false, received "yes"/],
    [{ method: 'moco-v4' }, /method: expected one of moco-v2, moco-v3, simclr, supervised, received "moco-v4"/],
    [{ labelSmoothing: 1 }, /labelSmoothing: expected a number from 0 up to below 1, received 1/],
  ] as [object, RegExp][]) {
    it(`of another method are refused: ${JSON.stringify(settings)}`, () => {
      wrong(settings).with.property('message').that.matches(error);
    });
  }

  it('of supervised training fit the classes', () => {
    const settings = { data: 'd', method: 'supervised' as const };
    expect(() => resolveConfig(settings, 32, 0)).to.throw(ConfigError, /needs pictures in class folders/);
    expect(() => resolveConfig({ ...settings, dim: 8 }, 32, 10)).to.throw(
      ConfigError,
      /number of classes, 10, received 8/,
    );
    expect(resolveConfig({ ...settings, dim: 8 }, 32).dim).to.equal(8); // before the pictures are known
  });

  it('are read from YAML, under the names of the options', () => {
    const settings = readSettings(file('run.yaml', 'slow-start: 3\nwidths: [1, 0.5]\nbaseWidth: 8\n'));
    expect(settings).to.deep.equal({ slowStart: 3, widths: [1, 0.5], baseWidth: 8 });
  });

  it('are read from JSON', () => {
    expect(readSettings(file('run.json', '{"epochs": 3}'))).to.deep.equal({ epochs: 3 });
  });

  const badFiles: { text: string; error: RegExp; name?: string }[] = [
    { text: 'epoch: 3', error: /run\.yaml: unknown setting "epoch" \(did you mean "epochs"\?\)/ },
    { text: 'out: run', error: /unknown setting "out"$/ },
    { text: 'rl: 3', error: /unknown setting "rl" \(did you mean "lr"\?\)/ },
    { text: 'widths: 1,0.5', error: /widths: expected fractions .*, received "1,0.5"; write \[1,0.5\]/ },
    { text: 'slow-strat: 3', error: /unknown setting "slowStrat" \(did you mean "slowStart"\?\)/ },
    { text: 'zebra: 3', error: /unknown setting "zebra"$/ },
    { text: 'slow-start: 3\nslowStart: 4', error: /slowStart is given twice/ },
    { text: 'lr-mod: cos', error: /unknown setting "lrMod" \(did you mean "lrMode"\?\)/ },
    { text: 'optimizer: adam', error: /optimizer: expected one of .*, received "adam" \(did you mean "adamw"\?\)/ },
    { text: 'recipe: mocov4', error: /recipe: expected one of cifar, .*, received "mocov4" \(did you mean "mocov/ },
    { text: 'milestones: 60', error: /milestones: expected epochs above 0, such as 60,80, received 60/ },
    { text: 'epochs: 0', error: /epochs: expected an integer of at least 1, received 0/ },
    { text: 'epochs: many', error: /epochs: expected an integer of at least 1, received "many"/ },
    { text: '- epochs', error: /expected settings by name/ },
    { text: 'epochs: [', error: /is not valid YAML/ },
    { text: '{', error: /is not valid JSON/, name: 'run.json' },
  ];
  for (const { text, error, name = 'run.yaml' } of badFiles) {
    it(`refuse ${JSON.stringify(text)}`, () => {
      expect(() => readSettings(file(name, text))).to.throw(ConfigError, error);
    });
  }

  it('name a file that is missing', () => {
    expect(() => readSettings('no/such.yaml')).to.throw(ConfigError, /cannot read no\/such\.yaml/);
  });

  it('refuse numbers out of range, by name', () => {
    wrong({ lr: 0 }).with.property('message', '[config] settings: lr: expected a number above 0, received 0');
    wrong({ lr: NaN })
      .with.property('message')
      .match(/lr: .*NaN/);
    wrong({ epochs: 1.5 })
      .with.property('message')
      .match(/epochs/);
    wrong({ encoderMomentum: 1 })
      .with.property('message')
      .match(/encoderMomentum: expected a number from 0 up to below 1/);
    wrong({ lossWeights: 4 })
      .with.property('message')
      .match(/lossWeights: expected one of 0, 1, 2, 3, 5, 6, 7, received 4/);
    wrong({ accumulate: 0 })
      .with.property('message')
      .match(/accumulate: expected an integer of at least 1, received 0/);
    wrong({ clipGrad: -1 })
      .with.property('message')
      .match(/clipGrad: expected a number of at least 0, received -1/);
    wrong({ slimLr: 0 })
      .with.property('message')
      .match(/slimLr: expected a number above 0/);
    wrong({ widths: [0.5] })
      .with.property('message')
      .match(/widths must hold 1/);
    wrong({ widths: [1, 1] })
      .with.property('message')
      .match(/widths holds a width twice/);
    wrong({ widths: [1, 2] })
      .with.property('message')
      .match(/widths: expected fractions/);
  });

  it('refuse what contradicts itself', () => {
    wrong({ epochs: 2, warmupEpochs: 2 })
      .with.property('message')
      .match(/warmupEpochs \(2\) must be below epochs \(2\)/);
    wrong({ milestones: [1] })
      .with.property('message')
      .match(/milestones are for lrMode step, received lrMode cos/);
    wrong({ batch: 128, accumulate: 3 })
      .with.property('message')
      .match(/accumulate must part the batch of 128 into equal parts of at least 2 pictures, received 3/);
    wrong({ batch: 4, accumulate: 4 })
      .with.property('message')
      .match(/at least 2 pictures/);
    wrong({ arch: 'resnet20', stem: 'imagenet' })
      .with.property('message')
      .match(/cifar stem only/);
  });

  it('ask for the data', () => {
    expect(() => resolveConfig({} as Settings, 32)).to.throw(ConfigError, /data is missing, give --data/);
  });

  it('follow the size of the pictures', () => {
    const small = resolveConfig({ data: 'd', epochs: 20 }, 32);
    expect(small).to.include({
      recipe: 'cifar',
      image: 32,
      stem: 'cifar',
      slowStart: 10,
      queue: 4096,
      encoderMomentum: 0.99,
    });
    const large = resolveConfig({ data: 'd', arch: 'resnet50', batch: 1024 }, 500);
    expect(large).to.include({
      recipe: 'mocov2',
      image: 224,
      stem: 'imagenet',
      lr: 0.2,
      queue: 65536,
      warmupEpochs: 10,
    });
    expect(large).to.include({ encoderMomentum: 0.999, weightDecay: 1e-4, baseWidth: 64 });
  });

  it('take crops and greys from the recipe, or say them themselves', () => {
    const of = (settings: Partial<Settings>) => resolveConfig({ data: '.', ...settings }, 32);
    expect(of({})).to.include({ recipe: 'cifar', cropMin: 0.2, grayP: 0.2 });
    expect(of({ recipe: 'simclr' })).to.include({ cropMin: 0.08, grayP: 0.2 });
    expect(of({ recipe: 'normal' })).to.include({ cropMin: 0.08, grayP: 0 });
    expect(of({ cropMin: 0.4, grayP: 0.5 })).to.include({ recipe: 'cifar', cropMin: 0.4, grayP: 0.5 });
  });

  it('sort the widths, and stay the same when they are resolved again', () => {
    const config = resolveConfig({ data: 'd', widths: [0.25, 1, 0.5] }, 32);
    expect(config.widths).to.deep.equal([1, 0.5, 0.25]);
    expect(resolveConfig(config, 500)).to.deep.equal(config);
  });
});
