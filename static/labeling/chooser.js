/**
 * Finding a class by typing its name: a combobox over any number of classes, in a dialog that a letter opens.
 *
 * The list follows the pattern of WAI-ARIA: the focus stays in the field, the active option is announced.
 */

import { counted, text } from "./texts.js";

const MOST_SHOWN = 50;
const PAGE = 8;
const RECENT = 10;

/** @typedef {{id: number, name: string, key: string|null}} Class */

export class Chooser {
  #dialog;
  #field;
  #list;
  #count;
  #classes;
  #choose;
  /** @type {Class[]} */
  #shown = [];
  #active = 0;
  /** @type {number[]} ids of the classes chosen last, the latest first */
  #recent = [];

  /** @param {HTMLDialogElement} dialog @param {Class[]} classes @param {(chosen: Class, event: Event) => void} choose */
  constructor(dialog, classes, choose) {
    this.#dialog = dialog;
    this.#field = dialog.querySelector("input");
    this.#list = dialog.querySelector("[role=listbox]");
    this.#count = dialog.querySelector("[role=status]");
    this.#classes = classes.map((known) => ({ ...known, plain: plain(known.name) }));
    this.#choose = choose;
    this.#field.addEventListener("input", () => this.#filter());
    this.#field.addEventListener("keydown", (event) => this.#press(event));
    this.#list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#take(this.#shown[Number(option.dataset.place)], event);
    });
    this.#list.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the field
  }

  /** @param {string} [typed] what was typed already */
  open(typed = "") {
    if (this.#dialog.open) return;
    this.#field.value = typed;
    this.#dialog.showModal();
    this.#field.focus();
    this.#filter();
  }

  #filter() {
    const wanted = plain(this.#field.value);
    const found = wanted ? this.#matching(wanted) : this.#latestFirst();
    this.#shown = found.slice(0, MOST_SHOWN);
    this.#active = 0;
    this.#list.replaceChildren(...this.#shown.map(makeOption));
    this.#field.setAttribute("aria-expanded", String(this.#shown.length > 0));
    this.#count.textContent = found.length ? counted("chooser.found", found.length) : text("chooser.none");
    this.#mark();
  }

  /** Names that start so, then words that start so, then the rest; each in the project's order. */
  #matching(wanted) {
    const rank = ({ plain: name }) => {
      if (name.startsWith(wanted)) return name === wanted ? 0 : 1;
      return new RegExp(`[^\\p{L}\\p{N}]${escaped(wanted)}`, "u").test(name) ? 2 : 3;
    };
    const ranked = this.#classes.filter(({ plain: name }) => name.includes(wanted)).map((known) => [rank(known), known]);
    return ranked.sort(([first], [second]) => first - second).map(([, known]) => known);
  }

  #latestFirst() {
    const latest = this.#recent.map((id) => this.#classes.find((known) => known.id === id));
    return [...latest, ...this.#classes.filter(({ id }) => !this.#recent.includes(id))];
  }

  #press(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE };
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (!event.repeat && this.#shown.length) this.#take(this.#shown[this.#active], event);
    } else if (event.key in steps && this.#shown.length) {
      event.preventDefault();
      const last = this.#shown.length - 1;
      const wanted = this.#active + steps[event.key];
      const isStep = Math.abs(steps[event.key]) === 1;
      if (isStep) this.#active = (wanted + last + 1) % (last + 1);
      else this.#active = Math.min(last, Math.max(0, wanted));
      this.#mark();
    }
  }

  #mark() {
    for (const [place, option] of [...this.#list.children].entries()) {
      option.setAttribute("aria-selected", String(place === this.#active));
    }
    const active = this.#list.children[this.#active];
    if (active) this.#field.setAttribute("aria-activedescendant", active.id);
    else this.#field.removeAttribute("aria-activedescendant");
    active?.scrollIntoView({ block: "nearest" });
  }

  #take(chosen, event) {
    this.#recent = [chosen.id, ...this.#recent.filter((id) => id !== chosen.id)].slice(0, RECENT);
    this.#dialog.close();
    this.#choose(chosen, event);
  }
}

function makeOption({ id, name, key }, place) {
  const option = document.createElement("li");
  option.id = `class-option-${id}`;
  option.setAttribute("role", "option");
  option.dataset.place = String(place);
  option.append(name);
  if (key) option.append(Object.assign(document.createElement("kbd"), { textContent: key }));
  return option;
}

/** What is compared: without accents and capitals. */
function plain(name) {
  return name.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().trim();
}

function escaped(literal) {
  return literal.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
