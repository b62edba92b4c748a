"use strict";
// Draws the data of the page. Names from files are set as text (textContent) and never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);

  // ---- arrays

  const decoded = new Map();

  function numbers(matrix) {
    if (!decoded.has(matrix)) {
      const raw = atob(matrix.data);
      const bytes = new Uint8Array(raw.length);
      for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
      decoded.set(matrix, matrix.type === "f8" ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer));
    }
    return decoded.get(matrix);
  }

  const columns = (matrix) => matrix.shape[0];
  const rows = (matrix) => matrix.shape[1];
  const value = (matrix, column, row) => numbers(matrix)[column * matrix.shape[1] + row];

  function spanned(word, index, per, count) {
    const first = index * per;
    const last = Math.min(first + per, count) - 1;
    return first === last ? `${word} ${first}` : `${word}s ${first} to ${last}`;
  }

  const stepName = (matrix, column) => spanned("step", column, matrix.perStep, matrix.steps);
  const unitName = (matrix, row) => spanned("unit", row, matrix.perUnit, matrix.units);
  const joined = (matrix) => (matrix.perStep > 1 || matrix.perUnit > 1 ? ` (${matrix.how})` : "");

  function written(number, digits = 7) {
    if (number === null || number === undefined) return "";
    if (Number.isNaN(number)) return "not counted";
    if (!Number.isFinite(number)) return number > 0 ? "infinite" : "minus infinite";
    return String(Number(number.toPrecision(digits)));
  }

  function brief(number) {
    const text = written(number, 3);
    return text.length > 7 ? number.toExponential(1) : text;
  }

  function range(values) {
    let low = Infinity;
    let high = -Infinity;
    for (const one of values) {
      if (!Number.isFinite(one)) continue;
      if (one < low) low = one;
      if (one > high) high = one;
    }
    if (low > high) return [0, 1];
    if (low === high) return [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
    return [low, high];
  }

  // ---- elements

  function make(name, text, kind) {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  }

  function fill(select, texts) {
    const label = select.closest("label");
    select.replaceChildren(...texts.map((text, k) => {
      const option = make("option", text);
      option.value = String(k);
      return option;
    }));
    label.hidden = texts.length < 2;
  }

  function table(caption, head, lines, options = {}) {
    const element = make("table");
    if (caption) element.append(make("caption", caption));
    const top = make("tr");
    head.forEach((text, k) => {
      const cell = make("th", undefined, lines.length && typeof lines[0][k] === "number" ? "number" : "");
      cell.scope = "col";
      if (options.sorts) {
        const button = make("button", text);
        button.type = "button";
        button.addEventListener("click", () => options.sorts(k));
        cell.append(button);
        cell.setAttribute("aria-sort", options.sorted === k ? options.direction : "none");
      } else cell.textContent = text;
      top.append(cell);
    });
    const header = make("thead");
    header.append(top);
    const body = make("tbody");
    for (const line of lines) {
      const row = make("tr");
      line.forEach((cell, k) => {
        const isNumber = typeof cell === "number";
        const text = isNumber ? written(cell, options.digits) : cell === null ? "" : cell;
        const kind = isNumber ? "number" : text.length > 24 ? "long" : "";
        const one = make(k === 0 ? "th" : "td", text, kind);
        if (k === 0) one.scope = "row";
        row.append(one);
      });
      body.append(row);
    }
    element.append(header, body);
    return element;
  }

  // ---- colours: cividis, whose lightness rises all the way

  const STOPS = [
    "00224e", "002e6a", "1a386f", "32436d", "434e6c", "535a6d", "61656f", "6f7073", "7d7c78", "8c8878", "9b9476",
    "aba072", "bcae6c", "cdbb63", "dec958", "f0d846", "fee838",
  ].map((text) => [0, 2, 4].map((k) => parseInt(text.slice(k, k + 2), 16)));

  function colour(share) {
    const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
    const k = Math.min(Math.floor(place), STOPS.length - 2);
    return STOPS[k].map((low, c) => Math.round(low + (STOPS[k + 1][c] - low) * (place - k)));
  }

  const named = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // ---- charts: a canvas that has a cursor, a line that says what is there, and keys

  const LEFT = 56;
  const RIGHT = 18;
  const BOTTOM = 22;
  let charts = 0;

  class Chart {
    // kind: "line", "bars" or "map"
    constructor(host, kind, height) {
      this.kind = kind;
      this.height = height;
      this.column = 0;
      this.row = 0;
      this.host = host;
      host.className = "chart";
      const id = `chart${charts++}`;
      this.title = make("h3");
      this.title.id = `${id}-title`;
      this.stage = make("div", undefined, "stage");
      this.stage.tabIndex = 0;
      this.stage.setAttribute("role", "application");
      this.stage.setAttribute("aria-roledescription", kind === "map" ? "heat map" : "chart");
      this.stage.setAttribute("aria-labelledby", this.title.id);
      this.stage.setAttribute("aria-describedby", `${id}-hint`);
      this.canvas = make("canvas");
      this.canvas.setAttribute("aria-hidden", "true");
      this.stage.append(this.canvas);
      const more = kind === "map" ? "; up and down: the unit" : "";
      this.hint = make("p", `Left and right arrows move along${more}; Page Up and Page Down by ten; Home and End to the ends.`, "hint");
      this.hint.id = `${id}-hint`;
      this.says = make("output");
      this.says.setAttribute("aria-live", "polite");
      host.append(this.title, this.stage, this.hint, this.says);
      this.stage.addEventListener("pointermove", (event) => this.point(event));
      this.stage.addEventListener("pointerdown", (event) => this.point(event));
      this.stage.addEventListener("keydown", (event) => this.press(event));
      this.moved = () => {};
      new ResizeObserver(() => this.draw()).observe(this.stage);
    }

    // shown: {title, columns, rows, number(column, row), limits, order, says(column, row), ticks(column), label(row)}
    show(shown) {
      this.shown = shown;
      this.title.textContent = shown.title;
      this.column = Math.min(this.column, shown.columns - 1);
      this.row = Math.min(this.row, shown.rows - 1);
      this.image = null;
      this.move(this.column, this.row, true);
    }

    hide(isHidden) {
      this.host.hidden = isHidden;
    }

    move(column, row, isQuiet = false) {
      this.column = Math.min(Math.max(column, 0), this.shown.columns - 1);
      this.row = Math.min(Math.max(row, 0), this.shown.rows - 1);
      const text = this.shown.says(this.column, this.row);
      if (this.says.textContent !== text) this.says.textContent = text;
      this.draw();
      if (!isQuiet) this.moved(this.column, this.row);
    }

    point(event) {
      const box = this.canvas.getBoundingClientRect();
      const across = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
      const column = Math.floor(across * this.shown.columns);
      let row = this.row;
      if (this.kind === "map") {
        const place = Math.floor(((event.clientY - box.top) / (box.height - BOTTOM)) * this.shown.rows);
        row = this.shown.order[Math.min(Math.max(place, 0), this.shown.rows - 1)];
      }
      this.move(column, row);
    }

    press(event) {
      const last = this.shown.columns - 1;
      const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -last, End: last };
      let row = this.row;
      if (event.key in moves) {
        this.move(this.column + moves[event.key], row);
      } else if (this.kind === "map" && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
        const place = this.shown.order.indexOf(row) + (event.key === "ArrowUp" ? -1 : 1);
        row = this.shown.order[Math.min(Math.max(place, 0), this.shown.rows - 1)];
        this.move(this.column, row);
      } else return;
      event.preventDefault();
    }

    draw() {
      const width = this.stage.clientWidth;
      if (!width || !this.shown || this.host.hidden) return;
      const scale = window.devicePixelRatio || 1;
      const height = this.kind === "map" ? Math.min(Math.max(this.shown.rows * 14, 60), 420) + BOTTOM : this.height;
      this.canvas.style.height = `${height}px`;
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      const pen = this.canvas.getContext("2d");
      pen.scale(scale, scale);
      pen.font = "12px system-ui, 'Liberation Sans', sans-serif";
      const area = { x: LEFT, y: 0, width: Math.max(width - LEFT - RIGHT, 1), height: height - BOTTOM };
      if (this.kind === "map") this.drawMap(pen, area);
      else this.drawSeries(pen, area);
      this.drawSteps(pen, area);
      this.drawCursor(pen, area);
    }

    drawSteps(pen, area) {
      const { columns: count } = this.shown;
      const most = Math.max(2, Math.floor(area.width / 70));
      let apart = 1;
      while (count / apart > most) apart *= [2, 2.5, 2][Math.round(Math.log10(apart) * 3) % 3];
      apart = Math.max(1, Math.round(apart));
      pen.fillStyle = named("--quiet");
      pen.textAlign = "center";
      pen.textBaseline = "top";
      for (let k = 0; k < count; k += apart) {
        const x = area.x + ((k + 0.5) / count) * area.width;
        pen.fillRect(x, area.y + area.height, 1, 4);
        pen.fillText(this.shown.tick(k), x, area.y + area.height + 6);
      }
    }

    drawCursor(pen, area) {
      const { columns: count } = this.shown;
      const x = area.x + (this.column / count) * area.width;
      const wide = area.width / count;
      pen.strokeStyle = named("--cursor");
      pen.lineWidth = 1.5;
      if (this.kind === "map") {
        const high = area.height / this.shown.rows;
        const y = area.y + this.shown.order.indexOf(this.row) * high;
        pen.setLineDash([4, 3]);
        pen.strokeRect(x, area.y + 0.5, Math.max(wide, 1.5), area.height - 1);
        pen.setLineDash([]);
        // white and black around it, so that it is seen on any colour
        for (const [grow, ink] of [[2, "#000000"], [1, "#ffffff"]]) {
          pen.strokeStyle = ink;
          pen.strokeRect(x - grow, y - grow, Math.max(wide, 2) + 2 * grow, Math.max(high, 2) + 2 * grow);
        }
      } else if (this.kind === "bars") {
        pen.setLineDash([4, 3]);
        pen.strokeRect(x, area.y + 0.5, Math.max(wide, 1.5), area.height - 1);
        pen.setLineDash([]);
      } else {
        pen.beginPath();
        pen.moveTo(x + wide / 2, area.y);
        pen.lineTo(x + wide / 2, area.y + area.height);
        pen.stroke();
      }
    }

    drawSeries(pen, area) {
      const { columns: count, number, limits } = this.shown;
      const [low, high] = limits;
      const x = (k) => area.x + ((k + 0.5) / count) * area.width;
      const y = (one) => area.y + 6 + (1 - (one - low) / (high - low)) * (area.height - 12);
      this.drawLimits(pen, area, low, high, y);
      if (this.kind === "bars") {
        const zero = y(0);
        const wide = Math.max((area.width / count) * 0.8, 0.75);
        for (let k = 0; k < count; k++) {
          const one = number(k, 0);
          if (!Number.isFinite(one) || one === 0) continue;
          pen.fillStyle = pen.strokeStyle = named("--bar");
          if (one > 0) pen.fillRect(x(k) - wide / 2, y(one), wide, zero - y(one));
          else {
            // negative ones are hatched
            pen.save();
            pen.beginPath();
            pen.rect(x(k) - wide / 2, zero, wide, y(one) - zero);
            pen.lineWidth = 1;
            pen.stroke();
            pen.clip();
            pen.beginPath();
            for (let s = -area.height; s < wide + area.height; s += 5) {
              pen.moveTo(x(k) - wide / 2 + s, zero);
              pen.lineTo(x(k) - wide / 2 + s + (y(one) - zero), y(one));
            }
            pen.stroke();
            pen.restore();
          }
        }
        return;
      }
      pen.strokeStyle = named("--accent");
      pen.fillStyle = pen.strokeStyle;
      pen.lineWidth = 1.75;
      pen.beginPath();
      let isDown = false;
      for (let k = 0; k < count; k++) {
        const one = number(k, this.row);
        if (!Number.isFinite(one)) {
          isDown = false;
          continue;
        }
        if (isDown) pen.lineTo(x(k), y(one));
        else pen.moveTo(x(k), y(one));
        isDown = true;
      }
      pen.stroke();
      const one = number(this.column, this.row);
      if (Number.isFinite(one)) {
        pen.beginPath();
        pen.arc(x(this.column), y(one), 4, 0, 2 * Math.PI);
        pen.fill();
      }
    }

    drawLimits(pen, area, low, high, y) {
      pen.fillStyle = named("--quiet");
      pen.strokeStyle = named("--line");
      pen.lineWidth = 1;
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      const marks = low < 0 && high > 0 ? [low, 0, high] : [low, (low + high) / 2, high];
      let before = null;
      for (const one of marks) {
        pen.beginPath();
        pen.moveTo(area.x, y(one));
        pen.lineTo(area.x + area.width, y(one));
        pen.stroke();
        if (before !== null && Math.abs(y(one) - before) < 14) continue;
        before = y(one);
        pen.fillText(brief(one), area.x - 6, Math.min(Math.max(y(one), 7), area.height - 7));
      }
    }

    drawMap(pen, area) {
      const { columns: count, rows: high, number, limits, order } = this.shown;
      this.drawHatch(pen, area);
      if (!this.image) {
        this.image = make("canvas");
        this.image.width = count;
        this.image.height = high;
        const brush = this.image.getContext("2d");
        const pixels = brush.createImageData(count, high);
        for (let place = 0; place < high; place++) {
          for (let k = 0; k < count; k++) {
            const one = number(k, order[place]);
            if (Number.isNaN(one)) continue;
            const [red, green, blue] = colour((one - limits[0]) / (limits[1] - limits[0]));
            pixels.data.set([red, green, blue, 255], 4 * (place * count + k));
          }
        }
        brush.putImageData(pixels, 0, 0);
      }
      pen.imageSmoothingEnabled = count > area.width || high > area.height;
      pen.drawImage(this.image, area.x, area.y, area.width, area.height);
      pen.strokeStyle = named("--line");
      pen.strokeRect(area.x, area.y, area.width, area.height);
      pen.fillStyle = named("--quiet");
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      const tall = area.height / high;
      const every = Math.max(1, Math.ceil(13 / tall));
      for (let place = 0; place < high; place += every) {
        const y = area.y + (place + 0.5) * tall;
        if (y >= 6) pen.fillText(this.shown.label(order[place]), area.x - 6, y);
      }
    }

    // steps that do not count show it
    drawHatch(pen, area) {
      pen.save();
      pen.beginPath();
      pen.rect(area.x, area.y, area.width, area.height);
      pen.clip();
      pen.strokeStyle = named("--line");
      pen.beginPath();
      for (let s = -area.height; s < area.width; s += 8) {
        pen.moveTo(area.x + s, area.y);
        pen.lineTo(area.x + s + area.height, area.y + area.height);
      }
      pen.stroke();
      pen.restore();
    }
  }

  // ---- one cursor in time for all charts of as many steps

  const cursors = [];
  let isMoving = false;

  function follows(chart, matrixOf) {
    const isTimed = () => !chart.host.hidden && chart.shown && matrixOf();
    cursors.push((step, steps, from) => {
      const matrix = isTimed();
      if (from === chart || !matrix || matrix.steps !== steps) return;
      chart.move(Math.floor(step / matrix.perStep) - (chart.shown.first || 0), chart.row);
    });
    return () => {
      const matrix = isTimed();
      if (isMoving || !matrix) return;
      isMoving = true;
      for (const one of cursors) one((chart.column + (chart.shown.first || 0)) * matrix.perStep, matrix.steps, chart);
      isMoving = false;
    };
  }

  // ---- input and prediction

  const chartInput = new Chart(at("chart-input"), "line", 150);
  const chartOutput = new Chart(at("chart-output"), "line", 150);
  const chartResults = new Chart(at("chart-results"), "line", 130);
  const input = () => data.inputs[Number(at("input").value)];
  const output = () => data.outputs[Number(at("output").value)];

  function chosen(select) {
    return Number(select.value || 0);
  }

  function series(chart, title, matrix, row, name) {
    const shown = [];
    for (let k = 0; k < columns(matrix); k++) shown.push(value(matrix, k, row));
    chart.row = 0;
    chart.show({
      title,
      columns: columns(matrix),
      rows: 1,
      number: (k) => shown[k],
      limits: range(shown),
      tick: (k) => String(k * matrix.perStep),
      says: (k) => `${stepName(matrix, k)}: ${name} = ${written(shown[k])}${joined(matrix)}`,
    });
  }

  // a value without steps, or all results of one step, along its features
  function profile(chart, title, matrix, column, name) {
    const shown = [];
    for (let k = 0; k < rows(matrix); k++) shown.push(value(matrix, column, k));
    chart.row = 0;
    chart.show({
      title,
      columns: shown.length,
      rows: 1,
      number: (k) => shown[k],
      limits: range(shown),
      tick: (k) => String(k * matrix.perUnit),
      says: (k) => `${name} ${k * matrix.perUnit}: ${written(shown[k])}${joined(matrix)}`,
    });
  }

  function drawInput() {
    const { name, names, hasTime, values } = input();
    const feature = chosen(at("feature"));
    const which = data.inputs.length > 1 ? `Input ${name}` : "Input";
    if (hasTime) series(chartInput, `${which}: ${names[feature]}`, values, feature, names[feature]);
    else profile(chartInput, which, values, 0, "feature");
    at("feature").closest("label").hidden = !hasTime || rows(values) < 2;
  }

  function drawOutput() {
    const { name, hasTime, values } = output();
    const result = chosen(at("result"));
    if (hasTime) series(chartOutput, `Output ${name}: result ${result}`, values, result, `result ${result}`);
    else profile(chartOutput, `Output ${name}`, values, 0, "result");
    at("result").closest("label").hidden = !hasTime || rows(values) < 2;
    drawResults();
  }

  function drawResults() {
    const { name, hasTime, values } = output();
    const isShown = hasTime && rows(values) > 1;
    chartResults.hide(!isShown);
    if (isShown) {
      const column = Math.min(chartOutput.column, columns(values) - 1);
      profile(chartResults, `Output ${name}: all results at ${stepName(values, column)}`, values, column, "result");
    }
    drawPredictionTable();
  }

  function drawPredictionTable() {
    if (!at("values-prediction").open) return;
    const lines = [];
    for (const [word, one, chart] of [["input", input(), chartInput], ["output", output(), chartOutput]]) {
      const column = one.hasTime ? Math.min(chart.column, columns(one.values) - 1) : 0;
      for (let k = 0; k < Math.min(rows(one.values), 500); k++) {
        const name = word === "input" ? one.names[k] : `result ${k * one.values.perUnit}`;
        lines.push([`${word} ${one.name}`, name, one.hasTime ? stepName(one.values, column) : "", value(one.values, column, k)]);
      }
    }
    at("values-prediction").lastElementChild.replaceChildren(
      table("Input and output at the cursor", ["value", "feature or result", "step", "number"], lines));
  }

  function chooseInput() {
    fill(at("feature"), input().names);
    chartInput.column = columns(input().values) - 1;
    drawInput();
  }

  function chooseOutput() {
    const { values } = output();
    fill(at("result"), Array.from({ length: rows(values) }, (_, k) => String(k * values.perUnit)));
    chartOutput.column = output().hasTime ? columns(values) - 1 : 0;
    drawOutput();
  }

  fill(at("input"), data.inputs.map((one) => one.name));
  fill(at("output"), data.outputs.map((one) => one.name));
  const inputMoved = follows(chartInput, () => input().hasTime && input().values);
  const outputMoved = follows(chartOutput, () => output().hasTime && output().values);
  chartInput.moved = () => {
    inputMoved();
    drawPredictionTable();
  };
  chartOutput.moved = () => {
    if (output().hasTime) drawResults();
    outputMoved();
  };
  at("input").addEventListener("change", chooseInput);
  at("feature").addEventListener("change", drawInput);
  at("output").addEventListener("change", chooseOutput);
  at("result").addEventListener("change", drawOutput);
  at("values-prediction").addEventListener("toggle", drawPredictionTable);

  // ---- gates and states

  const chartPart = new Chart(at("chart-part"), "map", 0);
  const chartUnit = new Chart(at("chart-unit"), "line", 140);
  const layer = () => data.layers[chosen(at("layer"))];
  const part = () => layer().parts[chosen(at("part"))];

  function drawPart() {
    const { name, order } = layer();
    const { part: short, said, values } = part();
    const limits = at("range").value === "own" ? range(numbers(values)) : part().limits;
    const isSame = at("order").value === "similar" && order.length === rows(values);
    const places = isSame ? order : Array.from({ length: rows(values) }, (_, k) => k);
    chartPart.show({
      title: `${name}: ${short}, ${said}`,
      columns: columns(values),
      rows: rows(values),
      number: (k, r) => value(values, k, r),
      limits,
      order: places,
      tick: (k) => String(k * values.perStep),
      label: (r) => String(r * values.perUnit),
      says: (k, r) => `${layer().hasTime ? `${stepName(values, k)}, ` : ""}${unitName(values, r)}: ${short} = ${written(value(values, k, r))}${joined(values)}`,
    });
    drawScale(limits);
    drawUnit();
  }

  function drawUnit() {
    const { name } = layer();
    const { part: short, values } = part();
    const isShown = columns(values) > 1;
    chartUnit.hide(!isShown);
    if (isShown) {
      chartUnit.column = chartPart.column;
      series(chartUnit, `${name}: ${short} of ${unitName(values, chartPart.row)}`, values, chartPart.row, `${unitName(values, chartPart.row)}, ${short}`);
    }
    drawPartTable();
  }

  function drawScale(limits) {
    const strip = make("canvas");
    strip.width = 256;
    strip.height = 1;
    strip.setAttribute("aria-hidden", "true");
    const brush = strip.getContext("2d");
    const pixels = brush.createImageData(256, 1);
    for (let k = 0; k < 256; k++) pixels.data.set([...colour(k / 255), 255], 4 * k);
    brush.putImageData(pixels, 0, 0);
    at("scale").replaceChildren(
      make("span", brief(limits[0])), strip, make("span", brief(limits[1])),
      make("span", "(larger numbers have the same colour; hatched steps do not count)"));
  }

  function drawPartTable() {
    if (!at("values-part").open) return;
    const { part: short, values } = part();
    const lines = [];
    for (let r = 0; r < Math.min(rows(values), 2000); r++) {
      lines.push([unitName(values, r), value(values, chartPart.column, r)]);
    }
    at("values-part").lastElementChild.replaceChildren(
      table(`${layer().name}, ${stepName(values, chartPart.column)}${joined(values)}`, ["unit", short], lines));
  }

  function chooseLayer() {
    const before = at("part").value ? at("part").selectedOptions[0].textContent : "";
    fill(at("part"), layer().parts.map((one) => `${one.part}: ${one.said}`));
    const again = layer().parts.findIndex((one) => `${one.part}: ${one.said}` === before);
    const first = layer().parts.findIndex((one) => one.part === "f" || one.part === "z");
    at("part").value = String(Math.max(again, 0) || Math.max(first, 0));
    drawPart();
  }

  if (data.layers.length) {
    fill(at("layer"), data.layers.map((one) => `${one.name} (${one.kind})`));
    const partMoved = follows(chartPart, () => layer().hasTime && part().values);
    const unitMoved = follows(chartUnit, () => layer().hasTime && part().values);
    chartPart.moved = () => {
      drawUnit();
      partMoved();
    };
    chartUnit.moved = unitMoved;
    at("layer").addEventListener("change", chooseLayer);
    at("part").addEventListener("change", drawPart);
    at("order").addEventListener("change", drawPart);
    at("range").addEventListener("change", drawPart);
    at("values-part").addEventListener("toggle", drawPartTable);
    const firstRecurrent = data.layers.findIndex((one) => one.memory);
    at("layer").value = String(Math.max(firstRecurrent, 0));
    chartPart.column = Number.MAX_SAFE_INTEGER;
    chooseLayer();
  } else at("inside").hidden = true;

  // ---- the past

  const chartPast = new Chart(at("chart-past"), "bars", 170);
  const remembering = data.layers.filter((one) => one.memory);
  const pastLayer = () => remembering[chosen(at("past-layer"))];

  // every choice: [the text, the matrix, the row of it, the head]
  function targets() {
    const found = [["the state: mean size over the units", pastLayer().memory.sizes, 0, null]];
    for (const head of pastLayer().memory.heads) {
      for (let k = 0; k < rows(head.values); k++) {
        found.push([`result ${k * head.values.perUnit} of ${head.name}`, head.values, k, head]);
      }
    }
    return found;
  }

  // the columns that are drawn: all, or those up to the step itself
  function pastSteps(matrix) {
    const many = Number(at("past-span").value);
    const step = Math.floor(pastLayer().memory.step / matrix.perStep);
    if (!many) return [0, columns(matrix)];
    if (pastLayer().memory.reverse) return [step, Math.min(columns(matrix), step + many)];
    return [Math.max(0, step + 1 - many), step + 1];
  }

  function drawPast() {
    const { memory, name } = pastLayer();
    chartPast.hide(Boolean(memory.refused));
    at("values-past").hidden = Boolean(memory.refused);
    at("past-span").closest("label").hidden = Boolean(memory.refused) || columns(memory.sizes) <= 24;
    at("past-target").closest("label").hidden = Boolean(memory.refused) || targets().length < 2;
    if (memory.refused) {
      at("past-said").textContent = memory.refused;
      return;
    }
    const [text, matrix, row, head] = targets()[chosen(at("past-target"))];
    const last = memory.reverse ? "this layer runs from the end to the beginning" : "the last one";
    const sentences = [`What each step contributed to the state at step ${memory.step}: ${last}.`];
    if (memory.halfLife) {
      const [low, middle, high] = memory.halfLife.map((one) => written(one, 3));
      sentences.push(`By the mean of the gate that keeps the state, half of what enters is gone after ${middle} steps (half of the units: ${low} to ${high}).`);
    }
    if (head) sentences.push(`The initial state contributed ${written(head.initial[row], 4)}; the head's bias belongs to no step. Negative bars are hatched.`);
    else if (memory.initial) sentences.push(`The initial state contributed ${written(memory.initial, 4)} (mean size).`);
    at("past-said").textContent = sentences.join(" ");
    const [first, end] = pastSteps(matrix);
    const shown = [];
    for (let k = first; k < end; k++) shown.push(value(matrix, k, row));
    const [low, high] = range(shown);
    chartPast.row = 0;
    chartPast.show({
      title: `${name}: contributions to ${text}`,
      first,
      columns: shown.length,
      rows: 1,
      number: (k) => shown[k],
      limits: [Math.min(low, 0), Math.max(high, 0)],
      tick: (k) => String((first + k) * matrix.perStep),
      says: (k) => `${stepName(matrix, first + k)}: ${written(shown[k])}${joined(matrix)}`,
    });
    drawPastTable();
  }

  function drawPastTable() {
    if (!at("values-past").open || pastLayer().memory.refused) return;
    const [text, matrix, row] = targets()[chosen(at("past-target"))];
    const lines = [];
    for (let k = 0; k < columns(matrix); k++) lines.push([stepName(matrix, k), value(matrix, k, row)]);
    at("values-past").lastElementChild.replaceChildren(table(`Contributions to ${text}${joined(matrix)}`, ["step", "contribution"], lines));
  }

  function choosePast() {
    if (!pastLayer().memory.refused) {
      fill(at("past-target"), targets().map((one) => one[0]));
      if (targets().length > 1) at("past-target").value = "1";
      const count = columns(pastLayer().memory.sizes);
      at("past-span").value = count > 96 ? "48" : "0";
    }
    drawPast();
    if (!pastLayer().memory.refused) chartPast.move(pastLayer().memory.reverse ? 0 : chartPast.shown.columns - 1, 0, true);
  }

  if (remembering.length) {
    fill(at("past-layer"), remembering.map((one) => one.name));
    chartPast.moved = follows(chartPast, () => !pastLayer().memory.refused && targets()[chosen(at("past-target"))][1]);
    at("past-span").addEventListener("change", drawPast);
    at("past-layer").addEventListener("change", choosePast);
    at("past-target").addEventListener("change", drawPast);
    at("values-past").addEventListener("toggle", drawPastTable);
    choosePast();
  } else at("past").hidden = true;

  // ---- units

  const sorting = { column: 0, direction: "ascending" };

  function drawUnits() {
    const found = data.units[chosen(at("units-layer"))];
    const sign = sorting.direction === "ascending" ? 1 : -1;
    const lines = [...found.rows].sort((a, b) => {
      const [left, right] = [a[sorting.column], b[sorting.column]];
      if (left === right) return a[0] - b[0];
      // what is missing comes last either way
      if (left === null || left === "") return 1;
      if (right === null || right === "") return -1;
      return (left < right ? -1 : 1) * sign;
    });
    const dead = found.rows.filter((line) => line[line.length - 1] === "never changes").length;
    const same = found.rows.filter((line) => line[line.length - 1].startsWith("the same")).length;
    const gates = "Open: the share of steps at which a gate is above 0.9; shut: below 0.1.";
    at("units-said").textContent =
      `${found.rows.length} units over ${found.steps} steps: ${dead} never change, ${same} repeat another one. ` +
      (found.head.some((name) => name.includes("open")) ? gates : "");
    const focused = document.activeElement && document.activeElement.closest("#units-table th");
    const place = focused ? focused.cellIndex : -1;
    at("units-table").replaceChildren(table(`Units of ${found.layer} (${found.kind})`, [...found.head, "remark"], lines, {
      sorts: (k) => {
        sorting.direction = sorting.column === k && sorting.direction === "ascending" ? "descending" : "ascending";
        sorting.column = k;
        drawUnits();
      },
      digits: 5,
      sorted: sorting.column,
      direction: sorting.direction,
    }));
    if (place >= 0) at("units-table").querySelectorAll("th button")[place].focus();
  }

  if (data.units.length) {
    fill(at("units-layer"), data.units.map((one) => one.layer));
    at("units-layer").addEventListener("change", () => {
      sorting.column = 0;
      sorting.direction = "ascending";
      drawUnits();
    });
    drawUnits();
  } else at("units").hidden = true;

  // ---- the rest

  at("title").textContent = data.title;
  at("made").textContent = `Made by CyLSTM ${data.version}.`;
  at("notes").replaceChildren(...data.notes.map((text) => make("li", text)));
  at("network-table").replaceChildren(table("Inputs and layers", data.network[0], data.network.slice(1)));
  at("facts").replaceChildren(...data.facts.map((text) => make("li", text)));
  if (data.metadata.length) at("metadata-table").replaceChildren(table("Metadata of the file", ["name", "text"], data.metadata));
  for (const scroll of document.querySelectorAll(".scroll")) {
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `${scroll.closest("section").querySelector("h2").textContent}, table`);
  }
  chooseInput();
  chooseOutput();
  const all = [chartInput, chartOutput, chartResults, chartPart, chartUnit, chartPast];
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all.forEach((one) => one.draw()));
})();
