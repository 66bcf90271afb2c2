// From answers to elements. User text only ever becomes text nodes, never markup.

/** Code points of a text: offsets of the service count these, where JavaScript's own count UTF-16 units. */
export const codePoints = (text) => Array.from(text);

/** The text without lone halves of surrogate pairs, which JSON in UTF-8 cannot hold. */
export const wellFormed = (text) =>
  text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");

/** An element with attributes and children; strings become text nodes. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Text and marks of a text with entities, which are sorted and do not overlap. */
export function marked(text, entities, kindOf) {
  const points = codePoints(text);
  const parts = [];
  let position = 0;
  entities.forEach((entity, number) => {
    if (entity.start > position) parts.push(points.slice(position, entity.start).join(""));
    const mark = element("mark", { class: kindOf(entity.label), "data-number": number });
    mark.append(points.slice(entity.start, entity.end).join(""));
    mark.append(element("span", { class: "label", dir: "ltr" }, entity.label));
    if (entity.score !== undefined) mark.title = describe(entity);
    parts.push(mark);
    position = entity.end;
  });
  parts.push(points.slice(position).join(""));
  return parts;
}

const describe = (entity) => `${entity.label}, probability ${entity.score.toFixed(3)}, ${entity.start} to ${entity.end}`;

/** A bar of 0 to 1 with its name and number; the bar itself says nothing more to a screen reader. */
export function bar(name, share) {
  const inner = element("span");
  inner.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  const outer = element("div", { class: "bar", "aria-hidden": "true" }, inner);
  return element("li", {}, element("span", {}, name), outer, element("span", {}, `${(100 * share).toFixed(0)}%`));
}

/** What differs between two lists of entities. */
export function difference(full, other) {
  const key = (entity) => `${entity.start} ${entity.end} ${entity.label}`;
  const before = new Map(full.map((entity) => [key(entity), entity]));
  const after = new Map(other.map((entity) => [key(entity), entity]));
  const moved = full
    .filter((entity) => after.has(key(entity)))
    .map((entity) => ({ entity, from: entity.score, to: after.get(key(entity)).score }))
    .filter(({ from, to }) => Math.abs(from - to) >= 0.005);
  return {
    gone: full.filter((entity) => !after.has(key(entity))),
    added: other.filter((entity) => !before.has(key(entity))),
    moved,
  };
}

/** One column of the comparison. */
export function changes(title, full, other) {
  const { gone, added, moved } = difference(full, other);
  const list = element("ul");
  const line = (kind, word, entity, rest) => {
    const item = element("li", { class: kind }, `${word} `, element("bdi", {}, entity.text), ` ${entity.label}${rest}`);
    list.append(item);
  };
  for (const entity of gone) line("gone", "lost:", entity, "");
  for (const entity of added) line("new", "new:", entity, ` ${entity.score.toFixed(2)}`);
  for (const { entity, from, to } of moved) line("", "", entity, ` ${from.toFixed(2)} → ${to.toFixed(2)}`);
  const nothing = element("p", { class: "quiet" }, "Nothing changes.");
  return element("div", {}, element("h3", {}, title), list.children.length ? list : nothing);
}

/** How often a known name has each label, in each language. */
export const counts = (known) =>
  Object.entries(known.counts)
    .map(([language, labels]) => {
      const each = Object.entries(labels).map(([label, count]) => `${label} ${count}`);
      return `${language}: ${each.join(", ")}`;
    })
    .join(" · ");
