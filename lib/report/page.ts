import { settingInfo, settingNames } from '../train/config';
import { percent } from '../train/report';
import { sectionsOf, short } from './charts';
import { escape } from './escape';
import type { RunData } from './run-folder';

const methodNames = {
  'moco-v2': 'MoCo v2',
  'moco-v3': 'MoCo v3',
  simclr: 'SimCLR',
  supervised: 'Supervised training',
} as const;

/** A run as one page of HTML that needs nothing else: no scripts, no network. The same files give the same page. */
export function page(run: RunData): string {
  const { config, steps, remarks } = run;
  const title = `${methodNames[config.method]}, ${config.arch}`;
  const done = steps.at(-1);
  const state = done ? `epoch ${short(done.epoch)} of ${config.epochs}, step ${done.step}` : 'not begun';
  const sections = sectionsOf(run).map(
    (section) =>
      `<section><h2>${escape(section.title)}</h2>${section.text ? `<p>${escape(section.text)}</p>` : ''}` +
      `<div class="charts">${section.charts.join('\n')}</div></section>`,
  );
  const diagnosed =
    run.diagnoses.length > 0
      ? ''
      : '<p>The run was not diagnosed; <code>--diagnose-every N</code> adds gradients, embeddings and weights.</p>';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escape(title)} – slimclr</title>
<style>${style}</style>
</head>
<body>
<header><h1>${escape(title)}</h1><p>Widths ${escape(config.widths.join(', '))} · ${escape(state)}</p></header>
<main>
${remarks.map((remark) => `<p class="remark">${escape(remark)}</p>`).join('\n')}
<section><h2>Widths</h2><p>Parameters, multiply-adds for one picture and features of the backbone; accuracy on test pictures.</p>${widthsTable(run)}</section>
${sections.join('\n')}
${diagnosed}
<section><h2>Recipe</h2><p>What was run, with every default settled (<code>config.json</code>).</p>${recipe(run)}</section>
</main>
</body>
</html>
`;
}

function widthsTable({ config, costs, evaluations }: RunData): string {
  const [first, last] = [evaluations[0], evaluations.at(-1)];
  const share = (knn: Record<string, number | null>, width: string) => {
    const accuracy = Object.hasOwn(knn, width) ? knn[width] : null;
    return accuracy === null ? '–' : percent(accuracy);
  };
  const count = (n: number | undefined) => (n === undefined ? '–' : n.toLocaleString('en'));
  const evaluated = first && last ? [first, last] : [];
  const heads = [
    'width',
    ...evaluated.map(({ epoch }) => `kNN, epoch ${short(epoch)}`),
    'parameters',
    'MACs',
    'features',
  ];
  const rows = config.widths.map(String).map((width) => {
    const cost = costs?.[width];
    const numbers = [cost?.backbone.parameters, cost?.backbone.macs, cost?.features].map(count);
    const cells = [...evaluated.map(({ knn }) => share(knn, width)), ...numbers];
    return `<tr><th scope="row">${escape(width)}</th>${cells.map((cell) => `<td>${escape(cell)}</td>`).join('')}</tr>`;
  });
  const head = heads.map((name) => `<th scope="col">${escape(name)}</th>`).join('');
  return `<div class="scroll" tabindex="0"><table class="numbers"><thead><tr>${head}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

function recipe({ config }: RunData): string {
  const rows = settingNames.map((name) => {
    const { option, help } = settingInfo(name);
    const given = config[name] as unknown;
    const text = Array.isArray(given) ? given.join(', ') : String(given);
    return `<tr><th scope="row"><code>${escape(option.split(' ')[0])}</code></th><td>${escape(text) || '–'}</td><td>${escape(help)}</td></tr>`;
  });
  return `<table class="recipe"><thead><tr><th scope="col">setting</th><th scope="col">value</th><th scope="col">meaning</th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

// Colours of series have a contrast of at least 3 to their background.
const style = `
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1c1f23; --quiet: #555b63; --edge: #dcdfe3;
  --series-1: #0067ac; --series-2: #c94f00; --series-3: #00805c; --series-4: #a8327e; --series-5: #6a4fc0; --series-6: #7d6200; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e8eaed; --quiet: #a5acb5; --edge: #343a41;
  --series-1: #5ab4f0; --series-2: #ff9a52; --series-3: #3ed0a0; --series-4: #f08fcb; --series-5: #b3a1ff; --series-6: #dcbf45; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
header, main { max-width: 84rem; margin: 0 auto; padding: 0 clamp(0.75rem, 3vw, 2rem); }
header { padding-top: 1.5rem; }
main { padding-bottom: 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.4rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: 0.3rem 0 0.8rem; max-width: 46rem; }
header p, figcaption p { color: var(--quiet); }
.remark { border-left: 4px solid var(--series-2); padding: 0.3rem 0.8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; align-items: start; }
figure { margin: 0; padding: 0.9rem; background: var(--card); border: 1px solid var(--edge); border-radius: 8px; min-width: 0; max-width: 42rem; }
figcaption p { font-size: 0.875rem; margin: 0.15rem 0 0.5rem; }
figure > svg { display: block; width: 100%; height: auto; overflow: visible; --plot-background: var(--card); }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; font-size: 0.875rem; margin-bottom: 0.3rem; }
.legend span { display: inline-flex; align-items: center; gap: 0.4rem; }
.legend svg { flex: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid var(--edge); vertical-align: top; font-weight: normal; overflow-wrap: anywhere; }
thead th { font-weight: 600; white-space: nowrap; }
tbody th { white-space: nowrap; }
.numbers td, .numbers th { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding: 0.3rem 0 0.3rem 1.5rem; }
.numbers th:first-child { text-align: left; padding-left: 0; }
code { font-size: 0.95em; }
@media (max-width: 40rem) {
  .recipe thead { display: none; }
  .recipe tr { display: grid; grid-template-columns: 11rem 1fr; border-bottom: 1px solid var(--edge); padding: 0.3rem 0; }
  .recipe th, .recipe td { border: 0; padding: 0; }
  .recipe td:last-child { grid-column: 1 / -1; color: var(--quiet); font-size: 0.8rem; }
}
`;
