#!/usr/bin/env python3
"""Synthetic invoices for the pocket model: documents, transcripts and evaluation sets.

    generate.py show [--seed S] [--family NAME]         print one document and its transcript
    generate.py eval --seed S --count N --out DIR       write an evaluation set
                     [--layouts trained|other|labels|NAME]   (labels: trained layouts with labels that are never trained)

Every invoice draws fresh names, numbers and amounts, so that a model cannot learn
any of them by heart and has to copy what the document prints.
"""
import argparse
import csv
import json
import os
import random
import re

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = json.load(open(os.path.join(HERE, "pocket_prompt.json"), encoding="utf-8"))

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, THINK_END = "<think>", "</think>"
CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
OUTS, OUTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
OUT, OUT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
SEP = "<｜tool▁sep｜>"
SPECIALS = [BOS, EOS, PAD, USER, ASSISTANT, THINK, THINK_END, CALLS, CALLS_END, CALL, CALL_END,
            OUTS, OUTS_END, OUT, OUT_END, SEP]

# --------------------------------------------------------------------------- words
TRADE = """Logistik Office Supplies Cloud Paper Transport Services Systems Media Foods Energy Print
Catering Software Consulting Security Cleaning Express Freight Textil Metall Technik Bau Holz
Elektro Werkzeug Papier Druck Medien Handel Spedition Reinigung Beratung Informatique Conseil
Fournitures Traiteur Nettoyage Imprimerie Solutions Labs Networks Partners Trading Imports Motors
Optics Pharma Garden Marine Steel Glass Packaging Studio Digital Data Telecom Hosting Analytics
Leasing Facility Events Travel Chemie Farben Garten Möbel Kälte Bäckerei Gerüstbau Qualité
Électricité Sécurité Bright Atlas North Green Blue Silver Red River Stone Oak Lake West East Prime
United Royal First Alpha Delta Omega Nova Global Urban Central""".split()
LEGAL = """GmbH|GmbH|GmbH|Ltd|Ltd|Ltd|SAS|SAS|Co|Inc|AG|LLC|BV|SA|SARL|Oy|AB|ApS|S.r.l.|S.p.A.|Kft|s.r.o.
|KG|UG|e.K.|PLC|LLP|SE|NV|OHG|Sp. z o.o.|GmbH & Co. KG|EURL|& Co|Corp""".replace("\n", "").split("|")
ITEM = """Palettentransport chairs Desk Compute paper Toner Storage Egress Whiteboards Monitor cable
keyboard service hours support licence licences renewal hosting domain backup pallets freight delivery
express cleaning windows catering lunch coffee beans water bottles printing flyers brochures design
concept workshop training course travel hotel taxi rental van forklift repair spare parts filter pump
valve screws bolts drill saw gloves helmets vests boxes tape labels envelopes folders pens markers
batteries lamp LED bulbs adapter router switch server rack SSD RAM laptop stand headset webcam phone
Beratung Wartung Reparatur Montage Anfahrt Lieferung Versand Reinigung Druck Papier Stühle Tische
Regale Schrauben Kabel Lampen Farbe Holz Stahl Miete Lizenz Schulung Arbeitsstunden Ersatzteile
Kartons Etiketten Ordner Büromaterial Kühlung Prüfung Montagematerial Entsorgung Lagerung
prestation conseil heures entretien livraison papier chaises câbles imprimante cartouches formation
hébergement maintenance location nettoyage transport peinture réparation écran étagères café
annual monthly basic standard premium small large blue black white type size set pack unit box of for
the and with per flat fee charge Q1 Q2 Q3 Q4 A3 A4 A5 USB HDMI 2TB 10m 5kg 500ml XL M8 M6 KW39 KW12""".split()
CITY = """Berlin Hamburg Köln Leipzig London Leeds York Bristol Paris Lyon Lille Wien Graz Zürich Bern
Milano Torino Madrid Utrecht Gent Oslo Malmö Praha Dublin Boston Austin München Stuttgart""".split()
STREET = """Street Road Lane Avenue Way Square Straße Weg Allee Platz Gasse rue avenue boulevard place
Hafenstraße Hauptstraße Bahnhofstraße Ringstraße Mill High Church Station""".split()
MONTHS = {"en": "January February March April May June July August September October November December",
          "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
          "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"}
ONSET = "b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kl kr pl pr qu sch sh sk sl sp st tr th".split()
NUCLEUS = "a e i o u a e i o u ai au ea ee ei ie io oa oo ou y ä ö ü é è".split()
CODA = ["", "", "", "n", "r", "l", "s", "t", "m", "k", "x", "ck", "nd", "rt", "st", "ng", "lm", "p", "d"]

# Labels per language; the last two of each list are never trained ("held-out phrasing").
LABELS = {
    "en": {
        "vat": ["VAT", "VAT", "VAT ID", "VAT no.", "VAT number", "Tax ID", "VAT reg. no.", "VATIN"],
        "invoice": ["Invoice no.", "Invoice", "Invoice number", "Invoice #", "Invoice ID", "Bill no.",
                    "Our invoice", "Document no."],
        "date": ["Date", "Date", "Invoice date", "Issued", "Date of issue", "Dated", "Billing date", "Issue date"],
        "order": ["Your order", "Order", "Order no.", "PO", "Purchase order", "PO number", "Your PO",
                  "Order reference", "Customer order"],
        "total": ["Total", "Total", "Amount due", "Total due", "Grand total", "Invoice total", "Total amount",
                  "Balance due", "To be paid"],
        "iban": ["Pay to IBAN", "IBAN", "IBAN", "Bank account", "Account (IBAN)", "Please pay to", "Remit to IBAN",
                 "Transfer to"],
        "vendor": ["Vendor", "Supplier", "From", "Seller", "Company", "Issuer", "Billed by"]},
    "de": {
        "vat": ["USt-IdNr.", "USt-ID", "USt-IdNr", "Ust.-Id.", "UID", "UStID", "Steuer-ID"],
        "invoice": ["Rechnung Nr.", "Rechnungsnummer", "Rechnung", "Rechnungs-Nr.", "Rg.-Nr.", "Re.-Nr.", "Belegnummer"],
        "date": ["Datum", "Rechnungsdatum", "vom", "Ausgestellt am", "Belegdatum", "Erstellt am"],
        "order": ["Ihre Bestellung", "Bestellung", "Bestellnummer", "Bestell-Nr.", "Ihr Auftrag", "Auftragsnummer",
                  "Ihre Bestellnummer"],
        "total": ["Gesamt", "Gesamtbetrag", "Rechnungsbetrag", "Summe", "Zahlbetrag", "Zu zahlen", "Endbetrag"],
        "iban": ["IBAN", "IBAN", "Bankverbindung", "Konto (IBAN)", "Bitte zahlen an", "Überweisung an", "Konto"],
        "vendor": ["Lieferant", "Firma", "Verkäufer", "Absender", "Aussteller", "Rechnungssteller"]},
    "fr": {
        "vat": ["TVA", "N° TVA", "TVA intracommunautaire", "No TVA", "Numéro de TVA", "Id. TVA"],
        "invoice": ["Facture n°", "Facture no", "Facture", "N° de facture", "Numéro de facture", "Réf. facture"],
        "date": ["Date", "Date de facture", "du", "Émise le", "Établie le", "Date d'émission"],
        "order": ["Votre commande", "Commande", "N° de commande", "Bon de commande", "Réf. commande",
                  "Commande client"],
        "total": ["Total", "Total à payer", "Montant total", "Net à payer", "Montant dû", "Somme due"],
        "iban": ["IBAN", "IBAN", "Compte IBAN", "À régler sur", "Virement sur", "Coordonnées bancaires"],
        "vendor": ["Fournisseur", "Société", "Vendeur", "Émetteur", "Prestataire"]},
}
HELD = 2
# Rarer English labels, trained as well: the more there are, the less a new one surprises.
RARER = {
    "vat": ["VAT Reg. No", "VAT registration number", "VAT-ID", "EU VAT", "Tax number", "Tax no.", "TIN", "VAT code", "VAT Id",
            "Sales tax no.", "Company VAT", "VAT"],
    "invoice": ["Invoice No", "Invoice nr.", "Inv. no.", "Inv #", "Number", "Invoice ref.", "Invoice reference", "Tax invoice", "INVOICE",
                "Bill number", "Bill", "Document"],
    "date": ["Invoice Date", "Date issued", "Issued on", "Date of invoice", "Tax date", "Billed on", "Created", "Doc. date", "Bill date", "DATE"],
    "order": ["Order number", "Your order no.", "P.O.", "PO no.", "P.O. number", "Purchase order no.", "Order ID", "Your reference", "Customer PO",
              "Buyer order", "Ref. order", "Order ref."],
    "total": ["TOTAL", "Sum", "Amount", "Amount payable", "Total payable", "Total to pay", "Payable", "Please pay", "Total sum", "Invoice amount",
              "To pay"],
    "iban": ["IBAN no.", "Account", "Account no.", "Our IBAN", "Bank details", "Pay to account", "Payment to", "Pay into", "Bank account (IBAN)",
             "Payable to", "Transfer"],
    "vendor": ["Supplier name", "Vendor name", "Sold by", "Invoice from", "Issued by", "Provider", "Contractor", "Sender", "Creditor"]}


class Draw:
    """Draws entities. phrasing "train" leaves out the held-out labels, "held" uses only those. With pieces, some words are
    made of these, so that training meets even the rare tokens of the vocabulary, and some numbers repeat their digits."""

    def __init__(self, rng, phrasing="train", pieces=()):
        self.r, self.phrasing, self.pieces = rng, phrasing, pieces

    def chance(self, p):
        return self.r.random() < p

    def pick(self, *options):
        return self.r.choice(options[0] if len(options) == 1 else options)

    def digits(self, n):
        if self.pieces and self.chance(0.12):       # runs and repetitions, in which it is hard to keep one's place
            few = [self.r.choice("0123456789") for _ in range(self.r.randint(1, 3))]
            return "".join(self.r.choice(few) for _ in range(n))
        return "".join(self.r.choice("0123456789") for _ in range(n))

    def letters(self, n):
        if self.pieces and self.chance(0.5):        # capitals that are one token together
            out = ""
            while len(out) < n:
                fit = [p for p in self.pieces if p.isupper() and p.isascii() and len(p) <= n - len(out)]
                out += self.r.choice(fit) if fit and self.chance(0.7) else self.r.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            return out
        return "".join(self.r.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(n))

    def label(self, lang, field):
        names = LABELS[lang][field]
        if lang == "en" and self.phrasing == "train" and self.chance(0.4):
            return self.pick(RARER[field])
        return self.pick(names[-HELD:] if self.phrasing == "held" else names[:-HELD])

    def word(self, lo=1, hi=3):
        if self.pieces and self.chance(0.2):
            return "".join(self.r.choice(self.pieces) for _ in range(self.r.randint(1, 3)))
        if self.chance(0.02):
            return "".join(self.r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(self.r.randint(2, 7)))
        return "".join(self.pick(ONSET) + self.pick(NUCLEUS) + self.pick(CODA) for _ in range(self.r.randint(lo, hi)))

    def name(self):
        w = self.word(1, 2).capitalize()
        k = self.r.random()
        if k < 0.02:
            w = w.upper()
        elif k < 0.04:
            w += "-" + self.word(1, 2).capitalize()
        return w

    def company(self):
        k = self.r.random()
        words = [self.name()] if k < 0.8 else [self.pick(TRADE)]
        if self.chance(0.12):
            words.append(self.pick("&", "&", "und", "et", "and"))
            words.append(self.pick("Söhne", "Sons", "Fils", "Partner", self.name(), self.name()))
        if self.chance(0.06):
            words.insert(0, self.pick("Gebr.", "Dr.", "Ets.", "The", "Autohaus", "Maison"))
        while self.chance(0.45) and len(words) < 4:
            words.append(self.pick(TRADE) if self.chance(0.75) else self.name())
        if self.chance(0.92):
            words.append(self.pick(LEGAL))
        return " ".join(words)

    def person(self):
        return self.name() + " " + self.name()

    def vat(self):
        d = self.digits
        return self.pick([
            lambda: "DE" + d(9), lambda: "DE" + d(9), lambda: "GB" + d(9), lambda: "GB" + d(9), lambda: "FR" + d(11),
            lambda: "FR" + d(11), lambda: "ATU" + d(8), lambda: "NL" + d(9) + "B" + d(2), lambda: "IT" + d(11),
            lambda: "ES" + self.letters(1) + d(8), lambda: "BE0" + d(9), lambda: "PL" + d(10), lambda: "SE" + d(12),
            lambda: "CHE-" + d(3) + "." + d(3) + "." + d(3), lambda: "IE" + d(7) + self.letters(2),
            lambda: "DE " + d(3) + " " + d(3) + " " + d(3), lambda: "GB " + d(3) + " " + d(4) + " " + d(2)])()

    def iban(self):
        d = self.digits
        country, body = self.pick([
            ("DE", lambda: d(18)), ("DE", lambda: d(18)), ("DE", lambda: d(18)),
            ("GB", lambda: self.letters(4) + d(14)), ("GB", lambda: self.letters(4) + d(14)),
            ("FR", lambda: d(10) + d(3) + self.letters(1) + d(9)), ("FR", lambda: d(10) + d(5) + self.letters(1) + d(7)),
            ("AT", lambda: d(16)), ("NL", lambda: self.letters(4) + d(10)), ("CH", lambda: d(17)),
            ("ES", lambda: d(20)), ("IT", lambda: self.letters(1) + d(22)), ("BE", lambda: d(12)),
            ("PL", lambda: d(24)), ("SE", lambda: d(20)), ("IE", lambda: self.letters(4) + d(14))])
        body = body()
        number = "".join(str(int(c, 36)) for c in body + country + "00")
        return country + "%02d" % (98 - int(number) % 97) + body

    def identifier(self, prefixes):
        p = self.pick(prefixes) if self.chance(0.7) else self.letters(self.r.randint(1, 4))
        n = self.digits(self.r.randint(3, 6))
        year = str(self.r.randint(2020, 2029))
        return self.pick([p + "-" + n] * 6 + [p + n, p + n, n + self.digits(2), year + "-" + n, p + "-" + year + "-" + n,
                          p + "/" + n, year + "/" + n, p + year + "-" + n[:3], p + "." + n, p + "_" + n,
                          p + "-" + n + "-" + self.letters(1), p + " " + n])

    def invoice_number(self):
        return self.identifier(["NW", "A", "SC", "BP", "INV", "RE", "R", "F", "FA", "RG", "IN", "2026", "B", "K"])

    def order_number(self):
        return "PO-" + self.digits(4) if self.chance(0.35) else self.identifier(
            ["PO", "PO", "PO", "BST", "B", "ORD", "O", "CMD", "BC", "45", "P", "WO"])

    def date(self, lang="en"):
        y, m, d = self.r.randint(2019, 2031), self.r.randint(1, 12), self.r.randint(1, 28)
        name = MONTHS[lang].split()[m - 1]
        iso = "%04d-%02d-%02d" % (y, m, d)
        dotted, slashed = "%02d.%02d.%04d" % (d, m, y), "%02d/%02d/%04d" % (d, m, y)
        if lang == "de":
            return self.pick(dotted, dotted, dotted, iso, "%d. %s %d" % (d, name, y), "%d.%d.%d" % (d, m, y))
        if lang == "fr":
            return self.pick(slashed, slashed, iso, "%d %s %d" % (d, name, y), dotted)
        return self.pick(iso, iso, iso, slashed, "%d %s %d" % (d, name, y), "%s %d, %d" % (name[:3], d, y), dotted,
                         "%02d-%s-%d" % (d, name[:3], y))

    def item(self):
        n = self.pick(1, 1, 2, 2, 2, 3)
        words = []
        for _ in range(n):
            k = self.r.random()
            words.append(self.pick(ITEM) if k < 0.6 else self.word(1, 2) if k < 0.85 else
                         self.pick(self.letters(1) + self.digits(2), self.digits(self.r.randint(1, 3)),
                                   self.letters(2) + "-" + self.digits(3), self.letters(2) + self.digits(2)))
        if not words[0][0].isdigit() and self.chance(0.7):
            words[0] = words[0][0].upper() + words[0][1:]
        if n > 1 and words[0].isdigit():
            words.reverse()
        return " ".join(words)

    def file(self):
        k = self.r.random()
        if k < 0.7:
            return "inv-" + self.digits(3) + ".txt"
        return self.pick(self.pick("inv", "invoice", "rechnung", "scan", "doc", "facture", self.word(1, 2)) +
                         self.pick("-", "_", "") + self.digits(self.r.randint(1, 6)),
                         str(self.r.randint(2020, 2029)) + "-" + self.digits(2) + "-" + self.word(1, 2)
                         ) + self.pick(".txt", ".txt", ".txt", ".md")


def money(cents, style):
    """4800.00 | 4,800.00 | 4.800,00 | 4 800,00 | 4'800.00 | 4800,00"""
    thousands, point = {"plain": ("", "."), "en": (",", "."), "de": (".", ","), "fr": (" ", ","), "ch": ("'", "."),
                        "comma": ("", ",")}[style]
    return "{:,}".format(cents // 100).replace(",", thousands) + point + "%02d" % (cents % 100)


class Invoice:
    """What a document prints. All fields are the printed strings; amounts also in cents."""

    def __init__(self, d, lang="en", max_lines=6, style=None, spaced=None, **fixed):
        self.lang, self.d = lang, d
        self.style = style or d.pick({"en": ["plain"] * 5 + ["en"] * 4 + ["ch"], "de": ["de"] * 6 + ["comma", "plain"],
                                      "fr": ["fr"] * 3 + ["comma"] * 3 + ["plain"] * 2}[lang])
        self.currency = d.pick(["EUR", "EUR", "EUR", "GBP", "USD", "CHF"] if lang == "en" else ["EUR", "EUR", "EUR", "CHF"])
        self.vendor, self.vat = fixed.get("vendor") or d.company(), fixed.get("vat") or d.vat()
        self.invoice, self.date = fixed.get("invoice") or d.invoice_number(), d.date(lang)
        self.order = fixed["order"] if "order" in fixed else d.pick([d.order_number()] * 10 + ["-", "-", ""])
        iban = fixed.get("iban") or d.iban()
        if spaced is None:
            spaced = d.chance(0.35)
        self.iban = " ".join(iban[i:i + 4] for i in range(0, len(iban), 4)) if spaced else iban
        n = min(d.pick(1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6), max_lines)
        self.rows = []
        for _ in range(n):
            qty = d.pick(1, 1, 2, 3, d.r.randint(1, 12), d.r.randint(1, 120))
            price = d.pick(d.r.randint(1, 99) * 10 ** d.r.randint(1, 4), d.r.randint(50, 99999), d.r.randint(500, 30000),
                           d.r.randint(1, 400) * 50)
            self.rows.append([d.item(), qty, price, qty * price])
        if "cents" in fixed and fixed["cents"]:   # scale the first line so that the sum is the wanted one
            rest = sum(r[3] for r in self.rows[1:])
            if rest >= fixed["cents"]:
                self.rows, rest = self.rows[:1], 0
            self.rows[0][1:] = [1, fixed["cents"] - rest, fixed["cents"] - rest]
        self.sum_cents = sum(r[3] for r in self.rows)
        self.total_cents = self.sum_cents + fixed.get("error", 0)
        self.total = self.money(self.total_cents)

    def money(self, cents):
        return money(cents, self.style)

    @property
    def lines(self):
        return [{"item": r[0], "amount": self.money(r[3])} for r in self.rows]

    def fields(self, file):
        return {"file": file, "vendor": self.vendor, "vat": self.vat, "invoice": self.invoice, "date": self.date,
                "order": self.order, "lines": self.lines, "total": self.total, "iban": self.iban}


# --------------------------------------------------------------------------- things a document also prints
def address(d):
    who = d.pick(d.company(), d.person(), "Kontor GmbH")
    street = d.pick(d.name() + " " + d.pick(STREET) + " " + str(d.r.randint(1, 199)),
                    str(d.r.randint(1, 199)) + " " + d.name() + " " + d.pick(STREET))
    return [who, street, d.digits(5) + " " + d.pick(CITY)]


def noise(d, lang):
    """One line that holds something which is not asked for."""
    w = {"en": ["Phone", "Fax", "Customer no.", "Delivery note", "Payment due", "Contact", "BIC", "Delivery date", "Page 1 of 1",
                "Payment within 30 days.", "Thank you for your business.", "Reg. no.", "Weight", "Terms: 14 days net"],
         "de": ["Tel.", "Fax", "Kundennummer", "Lieferschein", "Zahlbar bis", "Ansprechpartner", "BIC", "Lieferdatum", "Seite 1 von 1",
                "Zahlbar innerhalb von 30 Tagen.", "Vielen Dank für Ihren Auftrag.", "HRB", "Gewicht", "Zahlungsziel 14 Tage"],
         "fr": ["Tél.", "Fax", "N° client", "Bon de livraison", "Échéance", "Contact", "BIC", "Date de livraison", "Page 1 sur 1",
                "Paiement à 30 jours.", "Merci de votre confiance.", "SIRET", "Poids", "Délai de paiement 14 jours"]}[lang]
    i = d.r.randrange(len(w))
    colon = d.pick(" ", ": ", ": ")
    value = [lambda: "+" + d.digits(2) + " " + d.digits(3) + " " + d.digits(6), lambda: "+" + d.digits(2) + " " + d.digits(9),
             lambda: d.digits(5), lambda: "LS-" + d.digits(5), lambda: d.date(lang), lambda: d.person(),
             lambda: d.letters(8), lambda: d.date(lang), None, None, None, lambda: d.digits(6),
             lambda: str(d.r.randint(1, 900)) + " kg", None][i]
    return w[i] + (colon + value() if value else "")


def some_noise(d, lang, most=3):
    return [noise(d, lang) for _ in range(d.r.randint(0, most))]


def item_lines(inv, form=None):
    """The lines of the invoice in one of several forms, always the same within a document."""
    d, out = inv.d, []
    form = form or d.pick("equals", "equals", "at", "bullet", "numbered", "short")
    wide = d.pick(24, 28, 28, 32)
    for n, (item, qty, price, amount) in enumerate(inv.rows, 1):
        p, a = inv.money(price), inv.money(amount)
        out.append({
            "equals": f"{item:<28}{qty:>5} x {p:>9} = {a:>10}",
            "at": f"{item}, {qty} @ {p}: {a}",
            "columns": f"{item:<{wide}} {qty:>4} {p:>10} {a:>11}",
            "dots": item + " " + "." * max(3, wide + 8 - len(item)) + " " + a,
            "bullet": f"- {item}: {a}",
            "numbered": f"{n}. {item} ({qty} x {p}) {a}",
            "short": f"{qty} x {item}  {a}"}[form])
    return out


def trained_lines(inv):
    return item_lines(inv, inv.d.pick("equals", "equals", "at"))


def header_names(lang):
    return {"en": ("Description", "Qty", "Price", "Amount"), "de": ("Bezeichnung", "Menge", "Preis", "Betrag"),
            "fr": ("Désignation", "Qté", "Prix", "Montant")}[lang]


def total_line(inv):
    d, t = inv.d, inv.d.label(inv.lang, "total")
    return t + d.pick([f" {inv.currency} {inv.total}"] * 3 + [f": {inv.total} {inv.currency}", f": {inv.currency} {inv.total}",
                                                           f" {inv.total} {inv.currency}", f": {inv.total}"])


def order_line(inv, colon=": "):
    """No line at all when the order is missing."""
    return [] if inv.order == "" else [inv.d.label(inv.lang, "order") + colon + inv.order]


# --------------------------------------------------------------------------- trained layouts
def letter(inv):
    """The layout of the workflow case."""
    d, lang = inv.d, inv.lang
    if d.phrasing == "train" and d.chance(0.6):
        head = [inv.vendor, "VAT " + inv.vat, f"Invoice no. {inv.invoice}   Date {inv.date}"]
        head += ["Your order: " + inv.order] if inv.order or d.chance(0.5) else []
        return head + [""] + item_lines(inv, "equals") + ["", f"Total {inv.currency} {inv.total}", "Pay to IBAN " + inv.iban]
    head = [inv.vendor] + some_noise(d, lang, 2) + [f"{d.label(lang, 'vat')} {inv.vat}"]
    gap = d.pick("   ", "   ", "  ", "\n", " / ")
    head += (f"{d.label(lang, 'invoice')} {inv.invoice}{gap}{d.label(lang, 'date')} {inv.date}").split("\n") + order_line(inv)
    return head + [""] + trained_lines(inv) + [
        "", total_line(inv), f"{d.label(lang, 'iban')} {inv.iban}"] + some_noise(d, lang, 1)


def national(inv):
    """A letter with the vendor's address on top, in German or French (also English)."""
    d, lang = inv.d, inv.lang
    title = {"en": "INVOICE", "de": "RECHNUNG", "fr": "FACTURE"}[lang]
    colon = d.pick(": ", ": ", " ")
    out = [inv.vendor] + address(d)[1:] + ["", d.pick(title, title.capitalize())] + (address(d) if d.chance(0.5) else []) + [""]
    block = [d.label(lang, "invoice") + colon + inv.invoice, d.label(lang, "date") + colon + inv.date] + order_line(inv, colon)
    block += some_noise(d, lang, 2)
    if d.chance(0.4):
        d.r.shuffle(block)
    vat = d.label(lang, "vat") + colon + inv.vat
    tail = [total_line(inv), "", d.label(lang, "iban") + colon + inv.iban]
    if d.chance(0.5):
        tail.append(vat)
    else:
        block.insert(0, vat)
    return out + block + [""] + item_lines(inv) + [""] + tail + some_noise(d, lang, 1)


def keyvalue(inv):
    """One "label: value" line per field, in any order."""
    d, lang = inv.d, inv.lang
    colon = d.pick(": ", ": ", " = ", ":   ", " - ")
    rows = [d.label(lang, k) + colon + v for k, v in (
        ("vendor", inv.vendor), ("vat", inv.vat), ("invoice", inv.invoice), ("date", inv.date), ("iban", inv.iban))]
    rows += order_line(inv, colon) + some_noise(d, lang, 3)
    if d.chance(0.7):
        d.r.shuffle(rows)
    names = {"en": ["Items", "Lines", "Positions"], "de": ["Positionen", "Posten"], "fr": ["Lignes", "Articles"]}[lang]
    lines = [d.pick(names) + ":"] + trained_lines(inv)
    total = [d.label(lang, "total") + colon + inv.total + d.pick("", " " + inv.currency)]
    return rows + lines + total if d.chance(0.6) else rows + total + lines


def pipes(inv):
    d, lang = inv.d, inv.lang
    h = header_names(lang)
    order = [0, 1, 2, 3] if d.chance(0.7) else [1, 0, 2, 3]
    keep = order if d.chance(0.7) else [i for i in order if i != 2]
    bar = d.pick("| ", "| ", "")
    row = lambda cells: (bar + " | ".join(cells[i] for i in keep) + (" |" if bar else ""))
    table = [row(h)] + (["|" + "---|" * len(keep)] if bar else [])
    table += [row((r[0], str(r[1]), inv.money(r[2]), inv.money(r[3]))) for r in inv.rows]
    top = [inv.vendor, f"{d.label(lang, 'vat')}: {inv.vat}"]
    meta = [f"{d.label(lang, 'invoice')}: {inv.invoice}", f"{d.label(lang, 'date')}: {inv.date}"] + order_line(inv)
    meta = [" | ".join(meta)] if d.chance(0.4) else meta
    return top + some_noise(d, lang, 2) + meta + [""] + table + ["", total_line(inv), f"{d.label(lang, 'iban')}: {inv.iban}"]


def columns(inv):
    d, lang = inv.d, inv.lang
    h = header_names(lang)
    wide = max([len(r[0]) for r in inv.rows] + [20]) + d.r.randint(1, 6)
    money_first = d.chance(0.15)
    rows = [f"{r[0]:<{wide}}{r[1]:>5}{inv.money(r[2]):>12}{inv.money(r[3]):>12}" for r in inv.rows]
    head = f"{h[0]:<{wide}}{h[1]:>5}{h[2]:>12}{h[3]:>12}"
    rule = d.pick("-", "=", "_") * d.pick(40, 50, 60)
    left = lambda k, v: f"{d.label(lang, k) + d.pick('', ':'):<{20}}{v}"
    meta = [left("invoice", inv.invoice), left("date", inv.date)] + ([left("order", inv.order)] if inv.order else [])
    if d.chance(0.4):
        d.r.shuffle(meta)
    bank = [left("iban", inv.iban), left("vat", inv.vat)]
    d.r.shuffle(bank)
    total = f"{d.label(lang, 'total'):<{wide}}{inv.currency:>5}{inv.total:>24}"
    parts = [inv.vendor] + some_noise(d, lang, 2) + [rule] + (bank if money_first else []) + meta + ["", head, rule] + rows + [rule, total]
    return parts + ([] if money_first else [""] + bank) + some_noise(d, lang, 1)


def email(inv):
    d, lang = inv.d, inv.lang
    who = d.person()
    lab = lambda k: d.label(lang, k)
    if lang == "de":
        open_, ask, close = d.pick("Sehr geehrte Damen und Herren,", "Guten Tag,", "Hallo,"), "Bitte überweisen Sie", "Mit freundlichen Grüßen"
        intro = f"hiermit stellen wir {lab('invoice')} {inv.invoice} vom {inv.date}"
        intro += f" zu {lab('order')} {inv.order}." if inv.order else "."
        pay = f"{ask} {inv.total} {inv.currency} auf {inv.iban}."
    elif lang == "fr":
        open_, close = d.pick("Bonjour,", "Madame, Monsieur,"), d.pick("Cordialement", "Bien à vous")
        intro = f"voici la {lab('invoice')} {inv.invoice} du {inv.date}"
        intro += f" pour {lab('order')} {inv.order}." if inv.order else "."
        pay = f"Merci de régler {inv.total} {inv.currency} sur le compte {inv.iban}."
    else:
        open_, close = d.pick("Dear customer,", "Hello,", "Dear Sir or Madam,", "Hi " + d.name() + ","), d.pick("Kind regards", "Best regards", "Thanks")
        intro = d.pick("please find below", "this is", "we send you") + f" {lab('invoice')} {inv.invoice} of {inv.date}"
        intro += f" for {d.pick('your order', 'order', 'purchase order')} {inv.order}." if inv.order else "."
        pay = d.pick(f"Please transfer {inv.currency} {inv.total} to {inv.iban}.", f"{lab('total')}: {inv.total} {inv.currency}, payable to {inv.iban}.",
                     f"The total is {inv.total} {inv.currency}. {lab('iban')}: {inv.iban}")
    head = []
    if d.chance(0.6):
        head = ["From: " + who + " <" + d.word(1, 2) + "@" + d.word(1, 3) + ".com>", "Subject: " + d.pick("Invoice", "Rechnung", "Facture", "Your invoice"), ""]
    lines = item_lines(inv, d.pick("bullet", "bullet", "at", "equals", "short"))
    return head + [open_, "", intro, ""] + lines + ["", pay, "", close, d.pick(who, ""), inv.vendor, f"{lab('vat')} {inv.vat}"]


def taxed(inv):
    """Gross lines, then net, tax and gross total, between addresses and other numbers."""
    d, lang = inv.d, inv.lang
    rate = d.pick(19, 20, 7, 21, 10)
    net = round(inv.total_cents / (1 + rate / 100))
    n, t = {"en": ("Net", "VAT"), "de": ("Netto", "MwSt."), "fr": ("HT", "TVA")}[lang]
    n = d.pick(n, {"en": "Subtotal", "de": "Zwischensumme", "fr": "Sous-total"}[lang])
    to = {"en": "Bill to", "de": "Rechnung an", "fr": "Facturé à"}[lang]
    totals = [f"{n:<30}{inv.money(net):>12}", f"{t + ' ' + str(rate) + ' %':<30}{inv.money(inv.total_cents - net):>12}",
              f"{d.label(lang, 'total') + ' ' + inv.currency:<30}{inv.total:>12}"]
    colon = d.pick(": ", " ")
    meta = [d.label(lang, "invoice") + colon + inv.invoice, d.label(lang, "date") + colon + inv.date] + order_line(inv, colon)
    meta += some_noise(d, lang, 3)
    d.r.shuffle(meta)
    vendor = [inv.vendor, d.pick(CITY) + d.pick("", ", " + d.digits(5)), d.label(lang, "vat") + " " + inv.vat]
    customer = [to + ":"] + address(d)
    top = vendor + [""] + customer if d.chance(0.7) else customer + [""] + vendor
    return top + [""] + meta + [""] + item_lines(inv) + [""] + totals + ["", d.label(lang, "iban") + colon + inv.iban] + (
        ["BIC" + colon + d.letters(8)] if d.chance(0.5) else [])


def footer(inv):
    """Vendor, tax number and account only stand in the last lines."""
    d, lang = inv.d, inv.lang
    title = {"en": "Invoice", "de": "Rechnung", "fr": "Facture"}[lang]
    sep = d.pick(" - ", " | ", ", ", " * ")
    head = [f"{title} {inv.invoice}" if d.chance(0.5) else d.label(lang, "invoice") + ": " + inv.invoice, d.label(lang, "date") + ": " + inv.date]
    head += order_line(inv) + some_noise(d, lang, 2)
    foot = [inv.vendor, d.label(lang, "vat") + " " + inv.vat, d.label(lang, "iban") + " " + inv.iban]
    foot = [sep.join(foot)] if d.chance(0.5) else foot
    return head + [""] + trained_lines(inv) + ["", total_line(inv), "", "-" * d.pick(20, 30, 40)] + foot


# --------------------------------------------------------------------------- layouts that are never trained
def stacked(inv):
    """Label on one line, value on the next."""
    d, lang = inv.d, inv.lang
    out = []
    for k, v in (("vendor", inv.vendor), ("vat", inv.vat), ("invoice", inv.invoice), ("date", inv.date), ("order", inv.order),
                 ("total", inv.total), ("iban", inv.iban)):
        if v:
            out += [d.label(lang, k), "  " + v]
        if k == "order":
            out += [""] + item_lines(inv, d.pick("short", "bullet")) + [""]
    return out


def semicolons(inv):
    """A flat export: a head record, one record per line, a foot record."""
    d, lang = inv.d, inv.lang
    head = [d.label(lang, "vendor"), d.label(lang, "vat"), d.label(lang, "invoice"), d.label(lang, "date"), d.label(lang, "order")]
    out = ["; ".join(head), "; ".join([inv.vendor, inv.vat, inv.invoice, inv.date, inv.order or "-"])]
    out += [f"{n}; {r[0]}; {r[1]}; {inv.money(r[3])}" for n, r in enumerate(inv.rows, 1)]
    return out + [f"{d.label(lang, 'total')}; {inv.total}; {inv.currency}", f"IBAN; {inv.iban}"]


def sideways(inv):
    """Two columns: vendor data on the left, invoice data on the right."""
    d, lang = inv.d, inv.lang
    right = [f"{d.label(lang, 'invoice')} {inv.invoice}", f"{d.label(lang, 'date')} {inv.date}"] + order_line(inv)
    left = [inv.vendor, d.pick(CITY), f"{d.label(lang, 'vat')} {inv.vat}", "IBAN " + inv.iban]
    right += [""] * (len(left) - len(right))
    out = [f"{a:<44}{b}".rstrip() for a, b in zip(left, right)]
    return out + [""] + item_lines(inv, d.pick("columns", "dots")) + ["", f"{'':<30}{total_line(inv)}"]


# A model of this size and training time is reliable on four layouts with English labels; the others are what it is
# tried on to see how far it carries.
TRAINED = [(letter, 10), (keyvalue, 3), (pipes, 3), (footer, 3)]
OTHER = [(national, 2), (columns, 2), (email, 2), (taxed, 2), (stacked, 1), (semicolons, 1), (sideways, 1)]
TRAINED_LINES = 4
# How often each is trained: the layout of the example most.
SHARES = [(letter, 11), (keyvalue, 9), (pipes, 9), (footer, 6)]


def make_document(d, families=TRAINED, max_lines=6, family=None, **fixed):
    """Returns (invoice, text)."""
    layout = family or d.r.choices([f for f, _ in families], [w for _, w in families])[0]
    trained = any(layout is f for f, _ in TRAINED)
    lang = "en" if trained else d.pick("en", "en", "de", "fr")
    if trained:
        max_lines = min(max_lines, TRAINED_LINES)
    extra = {}
    if layout is letter and d.chance(0.6):
        extra = {"style": "plain", "spaced": False}
    if layout in (semicolons, email) and fixed.get("order") == "-":
        fixed["order"] = ""
    inv = Invoice(d, lang, max_lines, **extra, **fixed)
    if layout in (semicolons,) and inv.order == "":
        inv.order = "-"
    return inv, "\n".join(layout(inv)) + "\n"


# --------------------------------------------------------------------------- transcripts
def tool_entry(tool):
    return "\n```json\n" + json.dumps({"type": "function", "function": tool}, ensure_ascii=False) + "\n```\n"


SYSTEM_HEAD = PROMPT["role"] + "\n\n" + PROMPT["instruction"]
TOOL_PREFACE = PROMPT["system_text"][len(SYSTEM_HEAD):PROMPT["system_text"].index(tool_entry(PROMPT["tools"][0]))]


def prefix(rng=None):
    """Everything in front of the first user message; with a generator: a slightly changed one."""
    role, instruction, tools = PROMPT["role"], PROMPT["instruction"], list(PROMPT["tools"])
    if rng is not None:
        d = Draw(rng)
        role = d.pick(role, "Invoice clerk.", "You check invoices.", "Accounts payable.", d.name() + " accounts clerk.", "Clerk.")
        sentences = instruction.split(". ")
        if d.chance(0.4):
            sentences.pop(d.r.randrange(len(sentences)))
        if d.chance(0.4):
            sentences.insert(d.r.randrange(len(sentences) + 1), d.pick(
                "Be brief", "Work carefully", "Use the tools", "Never guess", "Today is " + d.date(), "Company: " + d.company()))
        instruction = ". ".join(sentences)
        if d.chance(0.3):
            d.r.shuffle(tools)
    return BOS + role + "\n\n" + instruction + TOOL_PREFACE + "".join(tool_entry(t) for t in tools)


def short_prefix(rng):
    """For the first part of the training, when the tool descriptions would only cost time."""
    return BOS + rng.choice([PROMPT["role"], SYSTEM_HEAD, PROMPT["instruction"]])


def call(name, args):
    return CALLS + CALL + "function" + SEP + name + "\n```json\n" + args + "\n```" + CALL_END + CALLS_END + EOS


def result(text):
    return OUTS + OUT + text + OUT_END + OUTS_END


def dumps(value):
    return json.dumps(value, ensure_ascii=False)


def draw_decision(d, inv):
    k = d.r.random()
    amount = money(inv.total_cents, "plain")
    if k < 0.36:
        return "approve", "three_way_match" if d.chance(0.85) else d.word(1, 3) + "_" + d.word(1, 2)
    if k < 0.50:
        return "needs_approval", "amount_over_" + (str(d.pick(5000, 5000, 1000, 2000, 10000, 250)) if d.chance(0.9) else d.digits(4))
    if d.chance(0.2):
        reason = "_".join(d.word(1, 2) for _ in range(d.r.randint(1, 3)))
        return d.pick("hold", "reject"), reason
    if k < 0.68:
        return "reject", d.pick("duplicate_of:" + d.file(), "duplicate_of:" + d.file(), "vendor_blocked")
    return "hold", d.pick("iban_changed", "po_closed", "po_unknown", "po_missing", "vendor_unknown", "amount_over_order",
                          "po_vendor_mismatch", "sum_mismatch:" + money(d.r.randint(100, 10 ** d.r.randint(4, 7)), "plain") + "!=" + amount,
                          "sum_mismatch:" + amount + "!=" + money(d.r.randint(100, 10 ** d.r.randint(4, 7)), "plain"))


def memory_block(d, inv):
    facts = []
    for _ in range(d.r.randint(1, 5)):
        decision, reason = draw_decision(d, inv)
        vendor = inv.vendor if d.chance(0.3) else d.company()
        facts.append("- " + PROMPT["memory_fact"].format(file=d.file(), vendor=vendor, decision=decision, reason=reason) + "\n")
    return "memory:\n" + "".join(facts) + "\n"


def reasoning(inv):
    return f"\nInvoice {inv.invoice} from {inv.vendor}, " + (f"order {inv.order}." if inv.order else "no order.")


def user_message(file, document, memory=""):
    return memory + "file: " + file + "\n\ntext:\n" + document


def transcript(d, inv, document, file, memory="", decision=None, errors=False):
    """[(written_by_model, text), ...] for one invoice, without the prefix."""
    decision, reason = decision or draw_decision(d, inv)
    unknown = reason == "vendor_unknown"
    vendor_id = "" if unknown else d.pick("V-" + d.digits(3), "V-" + d.digits(3), "V" + d.digits(4), d.digits(5), d.letters(2) + "-" + d.digits(4))
    amount = money(inv.total_cents, "plain")
    if d.chance(0.15):          # some writers of JSON drop the zeros at the end
        amount = amount.rstrip("0").rstrip(".") + d.pick("", ".0") if amount.endswith("00") else amount.rstrip("0")
    answer = '{"decision": %s, "reason": %s, "vendor_id": %s, "amount": %s}' % (dumps(decision), dumps(reason), dumps(vendor_id), amount)
    if decision != "approve" and d.chance(0.25):
        answer = '{"decision": %s, "reason": %s}' % (dumps(decision), dumps(reason))
    match = call("erp.match", dumps(inv.fields(file)))
    text = [(False, USER + user_message(file, document, memory) + ASSISTANT),
            (True, THINK + reasoning(inv) + THINK_END + "\n\n" + match)]
    if errors and d.chance(0.03):
        text += [(False, result('{"error": "%s"}' % d.pick("timeout", "busy", "try again", "connection lost", d.word()))), (True, match)]
    text.append((False, result(answer)))
    if decision == "approve":
        text.append((True, call("erp.pay", '{"file": %s, "vendor_id": %s, "amount": %s, "iban": %s}' % (
            dumps(file), dumps(vendor_id), amount, dumps(inv.iban)))))
        if errors and d.chance(0.04):
            text.append((False, result('{"error": "%s"}' % d.pick("denied", "not approved", "bank offline", "limit reached", d.word()))))
            decision, reason = "hold", "payment_failed"
        else:
            text.append((False, result('{"status": "paid", "reference": "%s"}' % d.pick("PAY-" + d.digits(6), "PAY-" + d.digits(6), d.identifier(["PAY", "P"])))))
    elif decision in ("hold", "reject"):
        text.append((True, call("erp." + decision, '{"file": %s, "reason": %s}' % (dumps(file), dumps(reason)))))
        text.append((False, result('{"status": "%s"}' % {"hold": "held", "reject": "rejected"}[decision])))
    text.append((True, dumps({"file": file, "vendor": inv.vendor, "decision": decision, "reason": reason}) + EOS))
    return text


def find_value(text, value, start=0, end=None, last=False):
    """The place of a printed value that is not a part of a longer word or number; -1 if there is none."""
    found = -1
    for m in re.finditer(r"(?<![\w.,'])" + re.escape(value) + r"(?![\w]|[.,']\d)", text[:end]):
        if m.start() >= start:
            found = m.start()
            if not last:
                break
    return found


def copies(text, inv, file):
    """Where the values that the model writes come from: [(part, place, part of the source, place there, length)].

    A length of -1 tells, at the end of a line of the invoice, where the next line of the document begins: what stands there
    says whether the list goes on. Helps the training only: some heads of the model are told where to look.
    """
    user, turn = text[0][1], text[1][1]
    body = user.index("\n\ntext:\n") + 8
    source = {"file": user.rindex("file: ", 0, body) + 6}
    rest, at = user, body       # in rest, the lines of the invoice are blanked out once they are found
    rows = []
    for line in inv.lines:
        while at < len(user):
            end = user.find("\n", at) + 1 or len(user)
            amount = find_value(user, line["amount"], at, end, last=True)
            item = find_value(user, line["item"], at, amount) if amount >= 0 else -1
            begin, at = at, end
            if item >= 0:
                rows.append((item, amount))
                rest = rest[:begin] + "\n" * (end - begin) + rest[end:]
                break
    for key in ("vendor", "vat", "invoice", "date", "order", "total", "iban"):
        value = getattr(inv, key)
        if len(value) > 1:
            source[key] = find_value(rest, value, body)
    out = []

    def add(value, before, place, at, part=1, origin=0):
        here = text[part][1].find(before + value, at)
        if here < 0:
            return at
        if place >= 0:
            out.append((part, here + len(before), origin, place, len(value)))
        return here + len(before) + len(value)

    at = 0
    for key, before in (("invoice", "Invoice "), ("vendor", " from "), ("order", ", order ")):
        at = add(getattr(inv, key), before, source.get(key, -1), at)
    at = turn.index("```json")
    for key in ("file", "vendor", "vat", "invoice", "date", "order"):
        at = add(file if key == "file" else getattr(inv, key), '"%s": "' % key, source.get(key, -1), at)
    for n, line in enumerate(inv.lines):
        at = add(line["item"], '"item": "', rows[n][0] if n < len(rows) else -1, at)
        at = add(line["amount"], '"amount": "', rows[n][1] if n < len(rows) else -1, at)
        if n < len(rows) and "\n" in user[rows[n][1]:]:
            out.append((1, at, 0, re.compile("\n+").search(user, rows[n][1]).end(), -1))
    for key in ("total", "iban"):
        at = add(getattr(inv, key), '"%s": "' % key, source.get(key, -1), at)

    answer = None       # the last result of erp.match: its values are copied by the turns behind it
    for part in range(2, len(text)):
        by_model, words = text[part]
        if not by_model:
            answer = part if '"decision": "' in words else answer
            continue
        for key, value in (("file", file), ("vendor", inv.vendor), ("iban", inv.iban)):
            add(value, '"%s": "' % key, source.get(key, -1), 0, part)
        for key in ("vendor_id", "reason", "decision"):
            found = answer and re.search('"%s": "([^"]+)"' % key, text[answer][1])
            if found:
                add(found[1], '"%s": "' % key, found.start(1), 0, part, answer)
        found = answer and re.search('"amount": ([0-9.]+)', text[answer][1])
        if found:
            add(found[1], '"amount": ', found.start(1), 0, part, answer)
    return out


def training_transcript(rng, max_lines=6, memory=0.5, pieces=()):
    """Returns (transcript, copies)."""
    d = Draw(rng, pieces=pieces)
    inv, document = make_document(d, SHARES, max_lines)
    if d.chance(0.15):
        document = document.rstrip("\n")
    file = d.file()
    text = transcript(d, inv, document, file, memory_block(d, inv) if d.chance(memory) else "", errors=True)
    return text, copies(text, inv, file)


# --------------------------------------------------------------------------- evaluation sets
DECISIONS = ["approve"] * 5 + ["needs_approval"] * 2 + ["duplicate", "duplicate", "vendor_blocked", "vendor_unknown", "iban_changed", "po_missing",
             "po_unknown", "po_vendor_mismatch", "po_closed", "sum_mismatch", "amount_over_order"]


def evaluation_set(seed, count, families=TRAINED, phrasing="train"):
    """A consistent world: invoices with vendors and orders that lead to every decision."""
    rng = random.Random("evaluation-%d" % seed)
    d = Draw(rng, phrasing)
    vendors = []
    for n in range(max(4, count // 4)):
        vendors.append({"vendor_id": "V-%d" % (100 + n), "name": d.company(), "vat": d.vat().replace(" ", ""), "iban": d.iban(),
                        "status": "blocked" if n % 10 == 3 else "approved", "gl_account": str(d.pick(6300, 6815, 6820, 6840))})
    good, blocked = [v for v in vendors if v["status"] == "approved"], [v for v in vendors if v["status"] == "blocked"]
    orders, cases, used = [], [], set()
    wanted = [DECISIONS[i % len(DECISIONS)] for i in range(count)]
    rng.shuffle(wanted)

    def new_order(vendor, cents, status="open"):
        po = d.order_number()
        while any(o["po"] == po for o in orders):
            po = d.order_number()
        orders.append({"po": po, "vendor_id": vendor["vendor_id"], "amount": money(cents, "plain"), "status": status})
        return po

    for n, kind in enumerate(wanted, 1):
        file = "inv-%03d.txt" % n
        v = d.pick(blocked if kind == "vendor_blocked" else good)
        if kind == "duplicate":
            earlier = [c for c in cases if c["vendor"] is not None and c["decision"][0] == "approve"]
            if not earlier:
                kind = "approve"
        if kind == "vendor_unknown":
            v = {"vendor_id": "", "name": d.company(), "vat": d.vat().replace(" ", ""), "iban": d.iban()}
        cents = d.r.randint(500100, 4000000) if kind == "needs_approval" else d.r.randint(1000, 500000)
        iban, number, order, error = v["iban"], d.invoice_number(), None, 0
        if kind == "duplicate":
            first = d.pick(earlier)
            v, number, order, cents = first["vendor"], first["invoice"].invoice, first["invoice"].order, first["invoice"].total_cents
            iban, decision = v["iban"], ("reject", "duplicate_of:" + first["file"])
        else:
            while (v["vendor_id"], number) in used:
                number = d.invoice_number()
            decision = {"approve": ("approve", "three_way_match"), "needs_approval": ("needs_approval", "amount_over_5000"),
                        "vendor_blocked": ("reject", "vendor_blocked")}.get(kind, ("hold", kind))
        used.add((v["vendor_id"], number))
        if kind == "iban_changed":
            iban = d.iban()
        if kind == "sum_mismatch":
            error = d.pick(1000, -500, 10000, 90, 1)
        if order is None:
            if kind == "po_missing":
                order = d.pick("-", "")
            elif kind == "po_unknown" or kind == "vendor_unknown":
                order = d.order_number()
                while any(o["po"] == order for o in orders):
                    order = d.order_number()
            elif kind == "po_vendor_mismatch":
                order = new_order(d.pick([x for x in vendors if x is not v]), cents)
            elif kind == "amount_over_order":
                order = new_order(v, cents - d.pick(1, 100, 990))
            else:
                order = new_order(v, cents + max(0, error) + d.pick(0, 0, 5000), "closed" if kind == "po_closed" else "open")
        inv, text = make_document(d, families, vendor=v["name"], vat=v["vat"], iban=iban, invoice=number, order=order, cents=cents, error=error)
        if kind == "sum_mismatch":
            decision = ("hold", "sum_mismatch:%s!=%s" % (money(inv.sum_cents, "plain"), money(inv.total_cents, "plain")))
        cases.append({"file": file, "invoice": inv, "text": text, "decision": decision, "vendor": v if v["vendor_id"] else None,
                      "vendor_id": v["vendor_id"]})
    return cases, vendors, orders


def write_evaluation_set(out, cases, vendors, orders):
    os.makedirs(os.path.join(out, "inbox"), exist_ok=True)

    def table(name, header, rows):
        with open(os.path.join(out, name), "w", encoding="utf-8", newline="") as f:
            w = csv.writer(f, lineterminator="\n")
            w.writerow(header)
            w.writerows(rows)

    for c in cases:
        with open(os.path.join(out, "inbox", c["file"]), "w", encoding="utf-8", newline="\n") as f:
            f.write(c["text"])
    for name, rows in (("vendors.csv", vendors), ("purchase_orders.csv", orders)):
        table(name, list(rows[0]), [list(r.values()) for r in rows])
    table("expected.csv", ["file", "decision", "reason"], [[c["file"], *c["decision"]] for c in cases])
    keys = ["vendor", "vat", "invoice", "date", "order", "total", "iban"]
    table("fields.csv", ["file", "decision", "reason"] + keys + ["lines"], [
        [c["file"], *c["decision"]] + [c["invoice"].fields("")[k] for k in keys] + ["|".join(x["item"] + "=" + x["amount"] for x in c["invoice"].lines)]
        for c in cases])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    s = sub.add_parser("show")
    s.add_argument("--seed", type=int, default=1)
    s.add_argument("--family")
    e = sub.add_parser("eval")
    e.add_argument("--seed", type=int, required=True)
    e.add_argument("--count", type=int, default=200)
    e.add_argument("--out", required=True)
    e.add_argument("--layouts", default="trained")
    a = p.parse_args()
    if a.what == "show":
        d = Draw(random.Random(a.seed))
        inv, text = make_document(d, family=globals()[a.family] if a.family else None)
        print(prefix() + "".join(t for _, t in transcript(d, inv, text, d.file(), memory_block(d, inv))))
    else:
        layouts = {"trained": TRAINED, "labels": TRAINED, "other": OTHER}.get(a.layouts) or [(globals()[a.layouts], 1)]
        data = evaluation_set(a.seed, a.count, layouts, "held" if a.layouts == "labels" else "train")
        write_evaluation_set(a.out, *data)


if __name__ == "__main__":
    main()
