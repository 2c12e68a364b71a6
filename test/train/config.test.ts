import { expect } from 'chai';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LOSS_WEIGHTINGS } from '../../lib/methods';
import { ARCHITECTURES } from '../../lib/nn';
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

  it('offer the architectures and loss weights that there are', () => {
    expect(settingsSchema.shape.arch.unwrap().options).to.have.members(Object.keys(ARCHITECTURES));
    expect([...settingsSchema.shape.lossWeights.unwrap().values]).to.have.members([...LOSS_WEIGHTINGS]);
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

  it('sort the widths, and stay the same when they are resolved again', () => {
    const config = resolveConfig({ data: 'd', widths: [0.25, 1, 0.5] }, 32);
    expect(config.widths).to.deep.equal([1, 0.5, 0.25]);
    expect(resolveConfig(config, 500)).to.deep.equal(config);
  });
});
