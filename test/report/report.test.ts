import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { parseHTML } from 'linkedom';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memoryStats } from '../../lib/tensor';
import { resolveConfig, type Settings } from '../../lib/train';
import { sketch } from '../../lib/train/diagnostics';
import { writeReport } from '../../lib/report';
import { numbers } from '../tensor/gradient-check';

const settings: Settings = {
  data: '/p',
  widths: [1, 0.5, 0.25],
  baseWidth: 8,
  epochs: 4,
  slowStart: 2,
  dim: 8,
  queue: 64,
};

/** What a run of ten steps per epoch logs, diagnosed every fifth step. */
function metrics(): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [{ step: 0, epoch: 0, knn: { '1': 0.1, '0.5': 0.11, '0.25': 0.12 } }];
  for (let step = 1; step <= 40; step++) {
    const epoch = step / 10;
    const slim = epoch > 2;
    const widths = slim ? ['1', '0.5', '0.25'] : ['1'];
    const each = <T>(f: (name: string, i: number) => T) => Object.fromEntries(widths.map((w, i) => [w, f(w, i)]));
    if (step % 5 === 0) {
      const of = (x: number) => ({
        norm: { '1': 3, '0.5': 2, '0.25': 1 },
        rest: { '0.5': x, '0.25': x },
        ratio: { '0.5': x, '0.25': 2 * x },
        own: each(() => 1),
        cosine: slim ? { '1|0.5': x / 3, '1|0.25': -x / 3, '0.5|0.25': null } : {},
      });
      const values = numbers(64, 7).map((v) => v * step);
      const weights = sketch([{ name: 'a', shape: [8, 8], slices: [8, 4, 2].map((c) => [c, c]), values }], 3);
      const diagnosis = {
        gradients: {
          total: of(1 + step / 100),
          parameters: { '1': 64, '0.5': 16, '0.25': 4 },
          layers: { 'conv1.weight': of(0.5), 'features.0.conv1.weight': of(2) },
        },
        embeddings: each((_, i) => ({ std: 0.3 / (i + 1), rank: 6 - i })),
        weights: Object.fromEntries(
          weights.map((w, i) => [[1, 0.5, 0.25][i], Buffer.from(w.buffer).toString('base64')]),
        ),
      };
      lines.push({ step, epoch, diagnosis });
    }
    lines.push({
      step,
      epoch,
      loss: 9 / step,
      losses: each((_, i) => (3 + i) / step),
      lr: 0.06,
      ms: 5,
      images_per_s: 9,
    });
    if (step % 20 === 0) lines.push({ step, epoch, knn: { '1': 0.5 + epoch / 100, '0.5': 0.4, '0.25': 0.3 } });
  }
  return lines;
}

describe('report', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'slimclr-report-'));
    config();
    log(metrics());
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const config = (changes: Record<string, unknown> = {}) =>
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...resolveConfig(settings, 16), ...changes }));
  const log = (lines: readonly unknown[], end = '\n') =>
    writeFileSync(join(folder, 'metrics.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n') + end);

  interface Element {
    textContent: string;
    getAttribute(name: string): string | null;
    querySelector(selector: string): Element | null;
    querySelectorAll(selector: string): Element[];
  }
  const report = async () => {
    const { output, remarks } = await writeReport(folder);
    const html = readFileSync(output, 'utf8');
    const { document } = (parseHTML as unknown as (text: string) => { document: Element })(html);
    const all = (selector: string) => [...document.querySelectorAll(selector)];
    const chart = (title: string) => all('figure').find((f) => f.querySelector('h3')?.textContent === title);
    return { html, remarks, all, chart };
  };
  /** Corners of the lines of a chart: every series that was drawn. */
  const paths = (figure: Element | undefined) =>
    [...figure!.querySelectorAll('g[aria-label="line"] path')].map(
      (p) => p.getAttribute('d')!.split(/[ML]/).length - 1,
    );
  const failure = () =>
    writeReport(folder).then(
      () => expect.fail('made a report'),
      (error: Error) => error,
    );

  it('draws everything that a diagnosed run has logged', async () => {
    const { all, chart, remarks } = await report();
    expect(remarks).to.deep.equal([]);
    expect(all('h3').map((h) => h.textContent)).to.deep.equal([
      'Loss by width',
      'kNN accuracy by width',
      'Learning rate',
      'Accuracy over parameters',
      'Accuracy over multiply-adds',
      'Gradient magnitude imbalance',
      'Gradient direction divergence',
      'Magnitude imbalance by layer',
      'Direction divergence by layer',
      'Standard deviation of a feature',
      'Effective rank',
      'Way of the weights of width 1',
      'Way of the weights of width 0.25',
    ]);
    expect(paths(chart('Loss by width'))).to.deep.equal([40, 20, 20]);
    expect(paths(chart('kNN accuracy by width'))).to.deep.equal([3, 3, 3]);
    expect(paths(chart('Gradient magnitude imbalance'))).to.deep.equal([8, 8]);
    // The pair without a direction is left out.
    expect(paths(chart('Gradient direction divergence'))).to.deep.equal([4, 4]);
    expect(paths(chart('Way of the weights of width 1'))).to.deep.equal([4, 5]);
    const marks = chart('Magnitude imbalance by layer')!.querySelectorAll(
      '[aria-label="dot"] circle, [aria-label="dot"] path',
    );
    expect(marks.length).to.equal(2 * 2 + 2); // two widths on two layers, and the legend
  });

  it('tells accuracy, parameters and MACs of every width, and every setting', async () => {
    const { all } = await report();
    const rows = all('.numbers tbody tr').map((row) => [...row.querySelectorAll('th, td')].map((c) => c.textContent));
    expect(rows.map((row) => row.slice(0, 3))).to.deep.equal([
      ['1', '10.0 %', '54.0 %'],
      ['0.5', '11.0 %', '40.0 %'],
      ['0.25', '12.0 %', '30.0 %'],
    ]);
    // As `slimclr inspect` has them.
    expect(rows[0].slice(3)).to.deep.equal(['68,456', '2,578,432', '32']);
    const recipe = new Map(
      all('.recipe tbody tr').map((row) => [
        row.querySelector('th')!.textContent,
        row.querySelector('td')!.textContent,
      ]),
    );
    expect(recipe.get('--widths')).to.equal('1, 0.5, 0.25');
    expect(recipe.get('--slow-start')).to.equal('2');
    expect(recipe.get('--diagnose-every')).to.equal('0');
  });

  it('needs nothing but itself', async () => {
    const { html } = await report();
    expect(html).not.to.match(/<script|<link|<img|<iframe|@import|url\(|javascript:|\son\w+=/i);
    expect(html.replaceAll('http://www.w3.org/', '')).not.to.match(/https?:/);
    expect(html).to.include("content=\"default-src 'none'; style-src 'unsafe-inline'\"");
  });

  it('is the same again', async () => {
    expect((await report()).html).to.equal((await report()).html);
  });

  it('leaves out what a run without diagnoses lacks, and says how to get it', async () => {
    log(metrics().filter((line) => !('diagnosis' in line)));
    const { all, html } = await report();
    expect(all('figure').length).to.equal(5);
    expect(html).to.include('--diagnose-every N');
  });

  it('compares no widths where there is one', async () => {
    config({ widths: [1], slowStart: 0 });
    const { all } = await report();
    expect(all('h3').map((h) => h.textContent)).to.deep.equal([
      'Loss by width',
      'kNN accuracy by width',
      'Learning rate',
      'Standard deviation of a feature',
      'Effective rank',
      'Way of the weights of width 1',
    ]);
  });

  it('makes a page of a run that has just begun', async () => {
    log([]);
    const { all, remarks } = await report();
    expect(all('figure').length).to.equal(0);
    expect(remarks).to.deep.equal(['No step has been logged yet.']);
  });

  it('thins long runs', async () => {
    const long = Array.from({ length: 5000 }, (_, i) => ({
      step: i,
      epoch: i / 1000,
      loss: 1,
      losses: { '1': 1 },
      lr: i,
    }));
    log(long);
    const { chart, html } = await report();
    expect(paths(chart('Loss by width'))).to.deep.equal([240]);
    expect(html.length).to.be.below(100_000);
  });

  it('shows names and values from the files as text, whatever they hold', async () => {
    const evil = '</style></svg><img src=x onerror=alert(1)>"\'&';
    config({ data: `/p/${evil}` });
    const lines = metrics();
    for (const line of lines) {
      const { diagnosis } = line as { diagnosis?: { gradients: { layers: Record<string, unknown> } } };
      if (diagnosis) diagnosis.gradients.layers[`<b>${evil}`.slice(0, 28)] = diagnosis.gradients.layers['conv1.weight'];
    }
    log(lines);
    const { html, all, chart } = await report();
    expect(all('img, b').length).to.equal(0);
    expect(html).not.to.include('<img').and.not.to.include('<b>');
    expect(chart('Magnitude imbalance by layer')!.textContent).to.include('<b></style></svg>');
    const given = all('.recipe tbody tr')[0].querySelector('td')!.textContent;
    expect(given).to.equal(`/p/${evil}`);
  });

  /** A bowl around the last weights, on a grid of 9 x 9. */
  const landscape = (changes: object = {}) => {
    const along = Array.from({ length: 9 }, (_, i) => i - 4);
    const bowl = along.map((y) => along.map((x) => 1 + x * x + y * y));
    const trajectory = [0, 2, 4].map((epoch) => ({ epoch, step: 10 * epoch, x: epoch - 4, y: (4 - epoch) / 2 }));
    const losses = { '1': bowl, '0.5': bowl.map((row) => row.map((v) => (v > 30 ? null : v))) };
    const found = {
      pictures: 20,
      step: 40,
      x: along,
      y: along,
      variance: [0.7, 0.2],
      losses,
      final: { '1': 1 },
      trajectory,
    };
    writeFileSync(join(folder, 'landscape.json'), JSON.stringify({ ...found, ...changes }));
  };

  it('draws the loss landscape of every width under the way of the weights', async () => {
    landscape();
    const { all, chart, remarks } = await report();
    expect(remarks).to.deep.equal([]);
    const titles = all('h3').map((h) => h.textContent);
    expect(titles).to.include('Loss of width 1 around the way of the weights');
    expect(titles).to.include('Loss of width 0.5 around the way of the weights');
    expect(titles).not.to.include('Loss of width 0.25 around the way of the weights');
    const figure = chart('Loss of width 1 around the way of the weights')!;
    expect(figure.querySelectorAll('g[aria-label="contour"] path').length).to.be.within(5, 10);
    expect(figure.textContent).to.include('component 1 (70 % of the variance)').and.include('epoch 4');
    expect(figure.textContent).to.include('1 at the end of the way');
    // The full network alone up to epoch 2, all widths from there on.
    expect(paths(figure)).to.deep.equal([2, 2]);
  });

  it('leaves out a landscape that is damaged, and says so', async () => {
    for (const changes of [{ x: [1, 2] }, { losses: { '1': [[1]] } }, { trajectory: 'home' }]) {
      landscape(changes);
      const { all, remarks } = await report();
      expect(remarks).to.deep.equal(['landscape.json could not be used; make it anew with slimclr landscape.']);
      expect(all('h2').map((h) => h.textContent)).not.to.include('Loss landscape');
    }
  });

  it('reads a file that was cut off in the middle of a line', async () => {
    log(metrics(), '\n{"step": 41, "epoch": 4.1, "lo');
    expect((await report()).remarks).to.deep.equal([]);
  });

  const nonsense: unknown[] = [
    { step: 'x', epoch: 0, loss: 1, losses: {}, lr: 1 },
    { step: 1, epoch: 0.1, loss: 'NaN', losses: { '1': 'NaN', __proto__: null }, lr: null },
    { step: 2, epoch: 0.2, loss: { a: 1 }, losses: { '1': [1], toString: 3 }, lr: 'x' },
    { step: 3, epoch: -1, loss: 1, losses: 7, lr: 1 },
    { step: 4, epoch: 0.4, knn: [1, 2] },
    { step: 4, epoch: 0.4, knn: { '1': 1e308, '0.5': -1e308 } },
    { step: 5, epoch: 1e300, loss: 1e300, losses: { '1': -1e300, '0.5': 1e-300 }, lr: -1 },
    { step: 6, epoch: 0.6, diagnosis: null },
    { step: 6, epoch: 0.6, diagnosis: { gradients: { total: {}, parameters: {}, layers: {} } } },
    ...['', 'AAAA', '!!!!', 'AADAfwAAwH8='].map((text) => ({
      step: 7,
      epoch: 0.7,
      diagnosis: {
        gradients: { total: { norm: {}, ratio: { '0.5': -1 }, cosine: { '1|0.5': 'x' } }, parameters: {}, layers: {} },
        embeddings: { '1': { std: 'NaN', rank: 1e308 } },
        weights: { '1': text, '0.25': text },
      },
    })),
  ];
  it('makes a page of whatever stands in the metrics, and tells what it could not use', async () => {
    for (const line of nonsense) {
      log([line]);
      await report();
    }
    log([...metrics(), ...nonsense]);
    const { remarks } = await report();
    expect(remarks).to.have.length(1);
    expect(remarks[0]).to.match(/^\d+ of the \d+ lines in metrics\.jsonl could not be used\.$/);
  });

  it('refuses in a sentence what is no run', async () => {
    log([1, { step: 1 }]);
    expect((await failure()).message).to.match(/line 1 is no JSON object/);
    writeFileSync(join(folder, 'config.json'), '{"data": "p"');
    expect((await failure()).message).to.match(/config\.json is not valid JSON/);
    writeFileSync(join(folder, 'config.json'), '{"data": "p"}');
    expect((await failure()).message).to.match(/config\.json lacks image, stem, baseWidth, dim, slowStart; give/);
    writeFileSync(join(folder, 'config.json'), '{"data": "p", "epochs": "<b>"}');
    expect((await failure()).message).to.match(/epochs: expected an integer of at least 1, received "<b>"/);
    rmSync(join(folder, 'config.json'));
    expect((await failure()).message).to.match(/config\.json does not exist; give the folder of a run/);
  });

  it('goes without parameters where the network cannot be made, and says why', async () => {
    config({ widths: [1, 0.01] });
    const { remarks, all } = await report();
    expect(remarks.at(-1)).to.match(/^Parameters and MACs are missing: \[widths\] width 0\.01 leaves none/);
    expect(all('.numbers tbody tr').length).to.equal(2);
  });

  it('gives its memory back', async () => {
    await report();
    await collectGarbage();
    const { tensors } = memoryStats('cpu');
    await report();
    expect(memoryStats('cpu').tensors).to.equal(tensors);
  });
});
