// Draws the learning curve from the rows of its table, so that the chart and the table are the same numbers.

let chart = null;
let drawn = ""; // what the chart shows, so that a refresh without news leaves it alone
let watched = null;
let watcher = null;

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function readTable() {
  const rows = [...document.querySelectorAll("#curve-table tbody tr")];
  const points = rows.map((row) => ({
    labels: Number(row.dataset.labels),
    accuracy: Number(row.dataset.accuracy) * 100,
    low: Number(row.dataset.low) * 100,
    high: Number(row.dataset.high) * 100,
    round: row.dataset.round,
  }));
  return points.sort((a, b) => a.labels - b.labels || Number(a.round) - Number(b.round));
}

// the budget is part of the picture unless it is so far away that it would squeeze the curve
function rightEnd(points, budget) {
  const last = points.at(-1).labels;
  return (budget > 4 * last ? 1.5 * last : Math.max(budget, last)) * 1.02 || 1;
}

function budgetLine(budget) {
  return (u) => {
    const x = Math.round(u.valToPos(budget, "x", true));
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) return;
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = token("--line-strong");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([6 * devicePixelRatio, 5 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, u.bbox.top);
    ctx.lineTo(x, u.bbox.top + u.bbox.height);
    ctx.stroke();
    ctx.restore();
  };
}

// one stroke a point shows the interval even where there is no neighbour to span a band to
function whiskers(points) {
  return (u) => {
    if (points.length > 40) return;
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = token("--chart-whisker");
    ctx.lineWidth = 2 * devicePixelRatio;
    for (const point of points) {
      const x = Math.round(u.valToPos(point.labels, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, u.valToPos(point.low, "y", true));
      ctx.lineTo(x, u.valToPos(point.high, "y", true));
      ctx.stroke();
    }
    ctx.restore();
  };
}

function tip(points, element) {
  return (u) => {
    const at = u.cursor.idx;
    element.hidden = at == null;
    if (at == null) return;
    const point = points[at];
    const reached = `${point.accuracy.toFixed(1)}% (${point.low.toFixed(1)}–${point.high.toFixed(1)}%)`;
    element.textContent = `Round ${point.round} · ${point.labels} labels · ${reached}`;
  };
}

function lowest(points) {
  const low = Math.min(...points.map((point) => point.low));
  return Math.max(0, Math.floor((low - 4) / 10) * 10);
}

function options(holder, points, budget, tipElement) {
  const font = `12px ${token("--font")}`;
  const axis = { stroke: token("--chart-text"), font, labelFont: font, ticks: { stroke: token("--chart-grid"), size: 4 }, grid: { stroke: token("--chart-grid"), width: 1 } };
  const line = token("--chart-line");
  return {
    width: holder.clientWidth,
    height: holder.clientWidth < 480 ? 256 : 296,
    padding: [12, 16, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 9 }, drag: { x: false, y: false } },
    scales: { x: { time: false, range: [0, rightEnd(points, budget)] }, y: { range: [lowest(points), 100] } },
    axes: [
      { ...axis, label: "Human labels", labelSize: 24, size: 32, space: 64 },
      { ...axis, label: "Test accuracy (%)", labelSize: 24, size: 44, space: 40 },
    ],
    series: [
      {},
      { stroke: line, width: 2, points: { show: true, size: 6, fill: line } },
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
    ],
    bands: [{ series: [3, 2], fill: token("--chart-band") }],
    hooks: { drawAxes: [budgetLine(budget), whiskers(points)], setCursor: [tip(points, tipElement)] },
  };
}

export function drawCurve() {
  const holder = document.getElementById("curve");
  const points = readTable();
  const budget = Number(document.getElementById("curve-table")?.dataset.budget);
  const wanted = JSON.stringify([points, budget, token("--chart-line")]);
  if (chart?.root.isConnected && wanted === drawn) return;
  chart?.destroy();
  chart = null;
  if (!holder || !points.length) return;
  drawn = wanted;
  holder.replaceChildren();
  const tipElement = document.createElement("div");
  tipElement.className = "chart-tip";
  tipElement.hidden = true;
  const column = (name) => points.map((point) => point[name]);
  const data = [column("labels"), column("accuracy"), column("low"), column("high")];
  chart = new uPlot(options(holder, points, budget, tipElement), data, holder);
  holder.append(tipElement);
  watch(holder);
}

function watch(holder) {
  if (watched === holder) return;
  watcher?.disconnect();
  watched = holder;
  watcher = new ResizeObserver(() => {
    if (chart && holder.clientWidth !== chart.width) chart.setSize({ width: holder.clientWidth, height: chart.height });
  });
  watcher.observe(holder);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurve);
