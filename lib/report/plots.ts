import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { escape } from './escape';

/** Points of one line, from left to right; y null is a gap. */
export interface Series {
  name: string;
  points: readonly { x: number; y: number | null; label?: string }[];
}

export interface Chart {
  title: string;
  /** What it shows, in a sentence or two. */
  note: string;
  x: string;
  y: string;
  series: readonly Series[];
  /** A horizontal line, and what it means. */
  level?: { y: number; label: string };
  /** A vertical line. */
  event?: { x: number; label: string } | null;
  yLog?: boolean;
  /** y holds shares. */
  percent?: boolean;
  /** x is a count, in a logarithmic scale with a tick at every point. */
  counts?: boolean;
  /** x and y have the same unit, so also the same scale. */
  square?: boolean;
}

const [width, height] = [380, 250];
const margins = { marginLeft: 54, marginTop: 28, marginRight: 16, marginBottom: 42 };
const mostPoints = 240;
const symbols = ['circle', 'square', 'triangle', 'diamond', 'star', 'wye'] as const;
const dashes = [undefined, '7 3', '2 3', '9 3 2 3', '12 4', '4 2'];

/** Colour and dash of the n-th series: told apart without colour, too. The colours are the page's. */
const styleOf = (n: number) => ({ stroke: `var(--series-${(n % 6) + 1})`, strokeDasharray: dashes[n % 6] });
// Text has a rim of the background's colour, so that it can be read over lines.
const ink = { fill: 'currentColor', stroke: 'var(--card)', strokeWidth: 4 };
const label = (p: Series['points'][0]) => p.label ?? '';

/** A chart of lines as HTML: title, legend, drawing. All text is escaped. Null where there is nothing to draw. */
export function lineChart(chart: Chart): string | null {
  const { level, event, yLog, counts, square } = chart;
  const usable = (y: number | null) => y === null || !yLog || y > 0;
  const drawn = chart.series
    .map((s, n) => ({ ...s, ...styleOf(n), points: thinned(s.points.filter(({ y }) => usable(y))) }))
    .filter(({ points }) => points.some(({ y }) => y !== null));
  if (drawn.length === 0) return null;
  const points = drawn.flatMap((s) => s.points);
  const xs = extent(points.map(({ x }) => x));
  const ys = extent(points.flatMap(({ y }) => y ?? []));
  const longest = 1.1 * Math.max(xs[1] - xs[0], ys[1] - ys[0]);
  const around = ([from, to]: number[]) => [(from + to - longest) / 2, (from + to + longest) / 2];
  const svg = draw({
    width,
    ...margins,
    // In a square the insides of both margins are as long.
    height: square
      ? width - margins.marginLeft - margins.marginRight + margins.marginTop + margins.marginBottom
      : height,
    x: {
      label: chart.x,
      labelArrow: 'none',
      ticks: counts ? points.map(({ x }) => x) : 6,
      ...(counts ? { type: 'log', inset: 20, tickFormat: '.3~s' } : { domain: square ? around(xs) : xs }),
    },
    y: {
      label: chart.y,
      labelArrow: 'none',
      grid: true,
      ticks: 5,
      percent: chart.percent,
      ...(square ? { domain: around(ys) } : { nice: true }),
      ...(yLog && { type: 'log', tickFormat: '~g' }),
      ...(counts && { insetTop: 16 }),
    },
    ariaLabel: chart.title,
    marks: [
      ...(level ? [Plot.ruleY([level.y], { stroke: 'currentColor', strokeOpacity: 0.6 })] : []),
      ...(event && event.x >= xs[0] && event.x <= xs[1] ? eventMarks(event, xs) : []),
      ...drawn.flatMap((s) => [
        Plot.line(s.points, { x: 'x', y: 'y', stroke: s.stroke, strokeDasharray: s.strokeDasharray, strokeWidth: 1.8 }),
        ...(s.points.length < 12 || square ? [Plot.dot(s.points, { x: 'x', y: 'y', fill: s.stroke, r: 2.6 })] : []),
      ]),
      ...(level ? [Plot.text([level], { y: 'y', text: 'label', frameAnchor: 'right', dy: -8, ...ink })] : []),
      Plot.text(points.filter(label), { x: 'x', y: 'y', text: label, dy: -10, ...ink }),
    ],
  });
  return figure(
    chart,
    svg.replace('<svg', '<svg role="img"'),
    drawn.length > 1 ? drawn.map((s) => key(s.name, s.stroke, s.strokeDasharray)) : [],
  );
}

function eventMarks(event: { x: number; label: string }, [from, to]: number[]) {
  // Written to the side that has room.
  const side = event.x < (from + to) / 2 ? { textAnchor: 'start', dx: 4 } : { textAnchor: 'end', dx: -4 };
  return [
    Plot.ruleX([event.x], { stroke: 'currentColor', strokeOpacity: 0.5, strokeDasharray: '3 3' }),
    Plot.text([event], { x: 'x', text: 'label', frameAnchor: 'top', dy: -14, ...side, ...ink } as object),
  ];
}

export interface ContourChart extends Pick<Chart, 'title' | 'note' | 'x' | 'y' | 'series'> {
  /** Where values stand, ascending and evenly apart, and the values, row by row: `values[y][x]`. */
  grid: { x: readonly number[]; y: readonly number[]; values: readonly (readonly (number | null)[])[] };
}

const contourCount = 10;

/** Filled contours, stronger the higher, under lines; x and y have the same scale. Null where there is nothing to draw. */
export function contourChart({ grid, series, ...chart }: ContourChart): string | null {
  const values = grid.values.flat();
  const known = values.filter((v) => v !== null).sort((a, b) => a - b);
  if (known.length === 0) return null;
  // Every band covers as much of the plane: a loss rises steeply at the rim.
  const thresholds = Array.from(
    { length: contourCount },
    (_, i) => known[Math.floor(((i + 0.5) * known.length) / contourCount)],
  );
  // A value stands in the middle of its cell.
  const cell = (along: readonly number[]) => (along[1] - along[0]) / 2;
  const bounds = {
    x1: grid.x[0] - cell(grid.x),
    x2: grid.x[grid.x.length - 1] + cell(grid.x),
    y1: grid.y[0] - cell(grid.y),
    y2: grid.y[grid.y.length - 1] + cell(grid.y),
  };
  const drawn = series.map((s, n) => ({ ...s, ...styleOf(n + 1) }));
  const axis = { labelArrow: 'none', ticks: 5 };
  const svg = draw({
    width,
    ...margins,
    height: width - margins.marginLeft - margins.marginRight + margins.marginTop + margins.marginBottom,
    x: { ...axis, label: chart.x, domain: [bounds.x1, bounds.x2] },
    y: { ...axis, label: chart.y, domain: [bounds.y1, bounds.y2] },
    ariaLabel: chart.title,
    marks: [
      // What is beyond all numbers is at least as high as the highest.
      Plot.contour(
        values.map((v) => v ?? known[known.length - 1]) as unknown as Plot.Data,
        {
          ...bounds,
          width: grid.x.length,
          height: grid.y.length,
          value: (v: number) => v,
          thresholds: [...new Set(thresholds)],
          fill: 'var(--series-1)',
          fillOpacity: 0.09,
          stroke: 'var(--series-1)',
          strokeOpacity: 0.5,
        } as object,
      ),
      ...drawn.flatMap((s) => [
        Plot.line(s.points, { x: 'x', y: 'y', stroke: s.stroke, strokeDasharray: s.strokeDasharray, strokeWidth: 2 }),
        Plot.dot(s.points, { x: 'x', y: 'y', fill: s.stroke, r: 3 }),
      ]),
      Plot.text(series.flatMap((s) => s.points).filter(label), { x: 'x', y: 'y', text: label, dy: -10, ...ink }),
    ],
  });
  return figure(
    chart,
    svg.replace('<svg', '<svg role="img"'),
    drawn.length > 1 ? drawn.map((s) => key(s.name, s.stroke, s.strokeDasharray)) : [],
  );
}

export interface LayerChart extends Pick<Chart, 'title' | 'note' | 'x'> {
  /** Values by layer, from first to last, of every series. */
  series: readonly { name: string; values: ReadonlyMap<string, number | null> }[];
  /** A vertical line, and what it means. */
  level: { x: number; label: string };
  xLog?: boolean;
}

/** A row for every layer, with a dot for every series. */
export function layerChart(chart: LayerChart): string | null {
  const drawn = chart.series.map(({ name, values }, n) => ({
    name,
    fill: styleOf(n).stroke,
    symbol: symbols[n % 6],
    points: [...values].flatMap(([layer, x]) => (x !== null && (!chart.xLog || x > 0) ? [{ layer, x }] : [])),
  }));
  const layers = [...new Set(drawn.flatMap(({ points }) => points.map(({ layer }) => layer)))];
  if (layers.length === 0) return null;
  const svg = draw({
    width,
    ...margins,
    marginLeft: 8 + 6.3 * Math.max(...layers.map((layer) => layer.length)),
    height: 70 + 16 * layers.length,
    x: {
      label: chart.x,
      labelArrow: 'none',
      ticks: 4,
      nice: true,
      ...(chart.xLog && { type: 'log', tickFormat: '~g' }),
    },
    y: { type: 'point', domain: layers, axis: null },
    ariaLabel: chart.title,
    marks: [
      Plot.axisY({ label: null, tickSize: 0, fontSize: 11 }),
      Plot.gridY(),
      Plot.ruleX([chart.level.x], { stroke: 'currentColor', strokeOpacity: 0.6 }),
      Plot.text([chart.level], { x: 'x', text: 'label', frameAnchor: 'top', dy: -14, ...ink }),
      ...drawn.map(({ points, fill, symbol }) => Plot.dot(points, { x: 'x', y: 'layer', fill, symbol, r: 3.5 })),
    ],
  });
  return figure(
    chart,
    svg.replace('<svg', '<svg role="img"'),
    drawn.length > 1 ? drawn.map((s) => symbolKey(s.name, s.fill, s.symbol)) : [],
  );
}

function extent(numbers: readonly number[]): [number, number] {
  return [numbers, numbers].map((list, i) => list.reduce((a, b) => (i === 0 ? Math.min(a, b) : Math.max(a, b)))) as [
    number,
    number,
  ];
}

// The libraries' own types need those of a browser.
const plot = Plot.plot as unknown as (options: object) => { outerHTML: string };
const parse = parseHTML as unknown as (html: string) => { document: unknown };

/** @param options of Plot.plot() */
function draw(options: object): string {
  const { document } = parse('<!doctype html><html><body></body></html>');
  const style = { fontSize: '13px', fontFamily: 'inherit', background: 'transparent' };
  return plot({ document, style, ...options }).outerHTML;
}

function figure({ title, note }: Pick<Chart, 'title' | 'note'>, svg: string, keys: readonly string[]): string {
  const legend = keys.length > 0 ? `<div class="legend">${keys.join('')}</div>` : '';
  return `<figure><figcaption><h3>${escape(title)}</h3><p>${escape(note)}</p></figcaption>${legend}${svg}</figure>`;
}

function key(name: string, stroke: string, dash?: string): string {
  const dashed = dash ? ` stroke-dasharray="${dash}"` : '';
  const line = `<line x1="0" x2="28" y1="6" y2="6" stroke="${stroke}" stroke-width="2.4"${dashed}/>`;
  return `<span><svg width="28" height="12" aria-hidden="true">${line}</svg>${escape(name)}</span>`;
}

function symbolKey(name: string, fill: string, symbol: (typeof symbols)[number]): string {
  const svg = draw({
    width: 14,
    height: 14,
    margin: 0,
    axis: null,
    x: { domain: [0, 1] },
    y: { domain: [0, 1] },
    marks: [Plot.dot([0.5], { x: 0.5, y: 0.5, fill, symbol, r: 4 })],
  });
  return `<span>${svg.replace('<svg', '<svg aria-hidden="true"')}${escape(name)}</span>`;
}

/** At most {@link mostPoints}: means of neighbours. A group without a value stays a gap. */
function thinned(points: Series['points']): Series['points'] {
  if (points.length <= mostPoints) return points;
  return Array.from({ length: mostPoints }, (_, g) => {
    const [begin, end] = [g, g + 1].map((n) => Math.floor((n * points.length) / mostPoints));
    const group = points.slice(begin, end);
    const values = group.flatMap(({ y }) => (y === null ? [] : [y]));
    const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
    return { x: mean(group.map(({ x }) => x)), y: values.length > 0 ? mean(values) : null };
  });
}
