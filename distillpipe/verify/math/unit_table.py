"""Tables of the words and signs that may stand next to a number, and what they mean.

- `UNITS`: spelling to dimensions and size in base units (m, kg, s, A, K, mol, cd, degree, bit, month, one
  unit of a currency).
- `SCALES`: words that multiply the number.
- `NEUTRAL_WORDS`: words that may be omitted.
- `MODIFIERS`: words that change the meaning in a way that we do not compute; both sides must have them.

Any other word is a noun: what is counted.
"""

# ruff: noqa: RUF001, SIM905 - look-alike characters, and word lists written in rows
from fractions import Fraction
from typing import NamedTuple

Dimensions = tuple[tuple[str, int], ...]


class UnitEntry(NamedTuple):
    """A unit: its dimensions and its size in base units.

    A value is converted by (value + `offset`) * `scale` * pi ** `num_pi`.
    """

    dimensions: Dimensions
    scale: Fraction = Fraction(1)
    num_pi: int = 0
    "power of pi in the size: -1 for the radian"
    offset: Fraction = Fraction(0)
    "for temperatures"
    currency: frozenset[str] = frozenset()


_DIMENSIONS = {
    "": "", "length": "m", "area": "m2", "volume": "m3", "mass": "kg", "time": "s", "speed": "m s-1",
    "frequency": "s-1", "force": "kg m s-2", "energy": "kg m2 s-2", "power": "kg m2 s-3",
    "pressure": "kg m-1 s-2", "current": "A", "charge": "A s", "voltage": "kg m2 s-3 A-1",
    "resistance": "kg m2 s-3 A-2", "capacity": "A2 s4 kg-1 m-2", "inductance": "kg m2 s-2 A-2",
    "flux": "kg m2 s-2 A-1", "field": "kg s-2 A-1", "amount": "mol", "light": "cd",
    "temperature": "K", "dose": "m2 s-2", "turning": "degree s-1",
}  # fmt: skip

# Spellings that take a prefix: symbols with their case, then names.
_PREFIXED = {
    "length": ("m", "meter metre", "1"), "mass": ("g", "gram gramme", "1/1000"),
    "time": ("s", "second", "1"), "current": ("A", "ampere amp", "1"), "amount": ("mol", "mole", "1"),
    "frequency": ("Hz", "hertz", "1"), "force": ("N", "newton", "1"), "pressure": ("Pa", "pascal", "1"),
    "energy": ("J", "joule", "1"), "power": ("W", "watt", "1"), "voltage": ("V", "volt", "1"),
    "charge": ("C", "coulomb", "1"), "resistance": ("Ω \\Omega", "ohm", "1"), "capacity": ("F", "farad", "1"),
    "flux": ("Wb", "weber", "1"), "field": ("T", "tesla", "1"), "inductance": ("H", "henry", "1"),
    "volume": ("L l ℓ \\ell", "liter litre", "1/1000"),
    "energy in calories": ("cal", "calorie", "4184/1000"), "energy of an electron": ("eV", "electronvolt", "801088317/5000000000000000000000000000"),
    "energy of an hour": ("Wh", "watthour", "3600"),
}  # fmt: skip
_PREFIXES = {
    "p": "1e-12", "n": "1e-9", "μ": "1e-6", "µ": "1e-6", "u": "1e-6", "\\mu": "1e-6", "m": "1e-3", "k": "1e3",
    "M": "1e6", "G": "1e9", "T": "1e12", "h": "1e2", "c": "1e-2", "d": "1e-1",
}  # fmt: skip
_RARE_PREFIXES = {"h": ("Pa", "L", "l"), "c": ("m", "L", "l"), "d": ("m", "L", "l")}
_NAMED_PREFIXES = {
    "nano": "1e-9", "micro": "1e-6", "milli": "1e-3", "centi": "1e-2", "deci": "1e-1", "kilo": "1e3",
    "mega": "1e6", "giga": "1e9",
}  # fmt: skip

_OTHERS = {
    "length": {
        "in inch inches": "127/5000", "ft foot feet": "381/1250", "yd yard": "1143/1250",
        "mi mile": "201168/125", "km км 千米 公里 ㎞ км. километр километра километров किमी": "1000",
        "m м 米 公尺 метр метра метров मीटर": "1", "cm см 厘米 公分 ㎝ см. сантиметр сантиметра сантиметров सेमी": "1/100",
        "дм 分米": "1/10", "mm мм 毫米 ㎜ миллиметров": "1/1000", "lightyear": "9460730472580800",
        "nauticalmile": "1852", "里": "500", "英里": "201168/125",
    },
    "area": {
        "acre": "316160658/78125", "ha hectare га 公顷": "10000", "亩": "2000/3", "㎡ 平方米 平米 м²": "1",
        "㎢ 平方千米 平方公里": "1000000", "平方厘米": "1/10000", "平方分米": "1/100", "平方毫米": "1/1000000",
    },
    "volume": {
        "gal gallon": "473176473/125000000000", "qt quart": "473176473/500000000000",
        "pt pint": "473176473/1000000000000", "floz fluidounce": "473176473/16000000000000",
        "cc ccm 立方厘米 毫升 мл ㎖": "1/1000000", "л 升 公升 литр литра литров लीटर": "1/1000", "立方米 ㎥": "1",
        "立方分米": "1/1000", "立方毫米": "1/1000000000",
    },
    "mass": {
        "lb lbs pound": "45359237/100000000", "oz ounce": "45359237/1600000000", "tonne metricton т 吨 тонн тонны टन": "1000",
        "kg кг 千克 公斤 килограмм килограмма килограммов किलोग्राम किग्रा ㎏": "1", "г 克 грамм грамма граммов ग्राम": "1/1000", "мг 毫克": "1/1000000",
        "斤": "1/2", "两": "1/20", "quintal": "100", "stone": "635029318/100000000",
    },
    "time": {
        "s sec second с сек сек. секунд секунды секунду 秒 秒钟 초 सेकंड": "1", "min minute мин мин. минут минуты минуту 分钟 分鐘 분 मिनट minuto": "60",
        "h hr hour ч час часа часов 小时 小時 時間 시간 घंटे घंटा hora stunde heure": "3600", "day дней дня день 天 일 दिन tag tage jour dia día": "86400",
        "wk week неделя недели недель 周 星期 週間": "604800", "fortnight": "1209600",
    },
    "speed": {"mph": "1397/3125", "kph kmh kmph": "5/18", "mps": "1", "knot kn": "463/900"},
    "pressure": {"atm atmosphere": "101325", "bar": "100000", "mbar millibar": "100", "torr mmHg": "20265/152"},
    "force": {"dyn dyne": "1/100000", "lbf": "8896443230521/2000000000000"},
    "energy": {"erg": "1/10000000", "btu BTU": "52752792631/50000000"},
    "field": {"gauss": "1/10000"},
    "power": {"hp horsepower": "37284993579113511/50000000000000"},
    "frequency": {"Bq becquerel": "1"},
    "turning": {"rpm RPM": "6"},
    "light": {"cd candela": "1"},
    "dose": {"Gy gray": "1"},
}  # fmt: skip
_BASES = {  # units that are not built from others
    "degree": {"° deg degree град градус градуса градусов 度 도 grado grad": "1", "rev revolution": "360", "turn": "360"},
    "bit": {"bit": "1", "byte bytes": "8", "KB kB kilobyte": "8000", "MB megabyte": "8000000", "GB gigabyte": "8000000000"},
    "month": {
        "month mo 月 个月 個月 месяц месяца месяцев महीने monat mes": "1", "yr year 年 год года лет वर्ष साल jahr año": "12",
        "decade": "120", "century": "1200", "quarteryear": "3",
    },
    "unit": {"unit 单位": "1"},
    "ton": {"ton t": "1"},  # metric, long or short: unknown
    "cup": {"cup": "1"}, "spoon": {"teaspoon tsp": "1", "tablespoon tbsp": "3"}, "decibel": {"dB decibel": "1"},
    "ppm": {"ppm": "1", "ppb": "1/1000"}, "mole per liter": {"molar": "1"},
}  # fmt: skip

_DOLLARS = "USD AUD CAD NZD HKD SGD TWD MXN BRL"
_CURRENCIES = {
    "\\$ $ dollar buck доллар доллара долларов 美元 美金 डॉलर dólar": (_DOLLARS, "1"),
    "USD US\\$ U.S.\\$ usdollar": ("USD", "1"), "AUD A\\$ AU\\$": ("AUD", "1"), "CAD C\\$ CA\\$": ("CAD", "1"),
    "NZD NZ\\$": ("NZD", "1"), "HKD HK\\$ 港元 港币": ("HKD", "1"), "SGD S\\$": ("SGD", "1"),
    "TWD NT\\$": ("TWD", "1"), "MXN MX\\$": ("MXN", "1"), "BRL R\\$ reais": ("BRL", "1"),
    "€ EUR euro \\euro евро 欧元": ("EUR", "1"), "£ GBP \\pounds \\textsterling sterling 英镑": ("GBP EGP", "1"),
    "¥ ￥ \\yen \\textyen": ("JPY CNY", "1"), "JPY yen 円 日元": ("JPY", "1"),
    "CNY RMB yuan renminbi 元 块 圆 人民币 元人民币 块钱 元钱": ("CNY", "1"), "角 毛": ("CNY", "1/10"),
    "₹ INR rupaye रुपये रुपए रु रुपया": ("INR", "1"), "Rs Rs. rs rs. Re Re. rupee": ("INR PKR NPR LKR MUR", "1"),
    "paise paisa paisas पैसे": ("INR PKR NPR", "1/100"), "PKR": ("PKR", "1"), "BDT Tk Tk. taka ৳": ("BDT", "1"),
    "₩ KRW won 원": ("KRW", "1"), "₽ RUB ruble rouble руб руб. рубль рубля рублей р р.": ("RUB", "1"),
    "копеек копейки kopeck": ("RUB", "1/100"), "CHF SFr Fr Fr. franc": ("CHF XOF XAF", "1"),
    "kr kr. krone kroner krona kronor": ("SEK NOK DKK ISK", "1"), "SEK": ("SEK", "1"), "NOK": ("NOK", "1"), "DKK": ("DKK", "1"),
    "PLN zł zloty złoty złotych": ("PLN", "1"), "CZK Kč koruna": ("CZK", "1"), "HUF Ft forint": ("HUF", "1"),
    "₺ TRY TL lira": ("TRY", "1"), "₫ VND đồng dong": ("VND", "1"), "฿ THB baht บาท": ("THB", "1"),
    "₦ NGN naira": ("NGN", "1"), "₱ PHP": ("PHP", "1"), "peso": ("PHP MXN ARS CLP COP", "1"), "₴ UAH hryvnia": ("UAH", "1"),
    "₪ ILS NIS shekel": ("ILS", "1"), "ZAR rand": ("ZAR", "1"), "IDR Rp Rp. rupiah": ("IDR", "1"), "MYR RM ringgit": ("MYR", "1"),
    "AED dirham": ("AED MAD", "1"), "SAR riyal": ("SAR", "1"), "KES KSh shilling": ("KES UGX TZS", "1"), "EGP": ("EGP", "1"), "GHS cedi ₵": ("GHS", "1"),
    "cent ¢ \\cent centavo céntimo centime": (f"{_DOLLARS} EUR PHP", "1/100"), "penny pence": ("GBP USD", "1/100"),
}  # fmt: skip
# Currencies before a number; after it they are letters.
_MONEY_ONLY_BEFORE = frozenset(["Fr", "Fr.", "RM", "Re", "Re."])

SCALES: dict[str, Fraction] = {
    name: Fraction(value)
    for value, spellings in {
        12: "dozen dozens douzaine douzaines docena docenas dutzend dúzia dúzias дюжина дюжины дюжин", 1: "ones", 10: "十 tens", 100: "hundred hundreds 百 백 сотен cien सौ",
        1000: "thousand thousands 千 천 тыс тыс. тысяча тысячи тысяч mil mille tausend tsd tsd. हज़ार हजार",
        10**4: "万 萬 만", 10**5: "lakh lakhs lac lacs लाख",
        10**6: "million millions mn mln mio mio. 百万 百萬 млн млн. миллион миллиона миллионов millón millones millionen milhão milhões",
        10**7: "crore crores करोड़ 千万 千萬",
        10**8: "亿 億 억", 10**9: "billion billions bn milliard milliards milliarde milliarden mrd mrd. 十亿 十億 млрд млрд. миллиард миллиарда миллиардов",
        10**12: "trillion trillions tn 万亿 兆 조 billón billones billionen трлн", 10**15: "quadrillion quadrillions",
    }.items()
    for name in spellings.split()
}  # fmt: skip
_ORDINALS = "half third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
for _denominator, _name in enumerate(_ORDINALS, 2):
    SCALES[_name] = SCALES[_name + "s"] = Fraction(1, _denominator)
SCALES.update({
    "halves": Fraction(1, 2), "quarter": Fraction(1, 4), "quarters": Fraction(1, 4),
    **{name: Fraction(1, below) for below, names in {
        16: "sixteenth sixteenths", 20: "twentieth twentieths", 32: "thirtysecond thirtyseconds", 64: "sixtyfourth sixtyfourths",
        100: "hundredth hundredths", 1000: "thousandth thousandths", 10**6: "millionth millionths",
    }.items() for name in names.split()},
})  # fmt: skip
# Abbreviations of thousand and million, read only in amounts of money.
MONEY_SCALES = {
    "k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6, "mm": 10**6, "MM": 10**6, "b": 10**9, "B": 10**9, "t": 10**12, "T": 10**12,
}  # fmt: skip
OPERATIONS = {"squared": "square", "cubed": "cube", "factorial": "factorial"}
PERCENT = {
    "%": Fraction(1), "percent": Fraction(1), "percentage": Fraction(1), "pct": Fraction(1), "prozent": Fraction(1),
    "процент": Fraction(1), "процента": Fraction(1), "процентов": Fraction(1), "प्रतिशत": Fraction(1), "퍼센트": Fraction(1), "パーセント": Fraction(1),
    "porcent": Fraction(1), "‰": Fraction(1, 10), "bps": Fraction(1, 100),
}  # fmt: skip

# Words that do not change the value: one side may omit them.
NEUTRAL_WORDS = frozenset(
    """of the a an in for with on total altogether overall exactly precisely only just is are was be equal equals old
    tall wide high deep away apart approx approximately about around roughly nearly almost ca circa so such different
    distinct possible respectively answer result value number amount each
    共 第 一共 总共 总计 合计 约 大约 大概 ровно всего примерно около etwa ungefähr environ aproximadamente cerca 약 लगभग""".split()
)
# Words that change the meaning of a number in a way that we do not compute: both sides must have them.
MODIFIERS = frozenset(
    """or and but nor not no non without if when unless except than then more less fewer greater larger smaller bigger
    least most over under above below beyond up down to from by at off within between until till before plus minus
    negative positive multiplied divided twice double triple remainder rest mod modulo base out into x score gross
    inverse reciprocal opposite bc bce grand thou mill myriad something some doubled halved tripled quadrupled root
    infinity infinite nan none zero false incorrect loss losses deficit debt maximum minimum max cannot never always unknown wrong maybe
    perhaps possibly either neither both upward upwards onward onwards
    половин половины половина трети треть четверти четверть demi demie demis halbe hälfte drittel viertel tiers
    tercio tercios cuarto cuartos mitad mitades o ou oder und y et e más mas mehr plus menos moins weniger meno più di que als bis hasta jusqu minder mindestens
    höchstens máximo mínimo и или не более менее больше меньше минус плюс या से कम अधिक ज्यादा 이상 이하 초과 미만 마이너스""".split()
)
# Nouns before a number: `Day 5`, `Area: 25`. Any other word there is a modifier.
LABELS = frozenset(
    """answer result total value area volume perimeter length width height radius diameter distance speed time price cost
    age day year month week page room case level grade step term team number figure profit salary probability sum
    difference product mean median mode average altitude weight mass angle slope temperature
    circumference question problem part figure row column""".split()
)
# Characters of other scripts that change a number anywhere in a word.
MODIFYING_CHARACTERS = frozenset("半成负負多余几不以至超大小或和与减加乘除折割比未最非无")
SYNONYMS = {
    "people": "person", "persons": "person", "children": "child", "men": "man", "women": "woman", "mice": "mouse",
    "geese": "goose", "teeth": "tooth", "vertices": "vertex", "indices": "index", "matrices": "matrix",
    "dice": "die", "leaves": "leaf", "halves": "half", "loaves": "loaf", "knives": "knife",
}  # fmt: skip


def _dimensions(text: str) -> Dimensions:
    """`kg m s-2` as pairs of a base unit and its exponent."""
    dimensions = []
    for part in text.split():
        name = part.rstrip("-0123456789")
        dimensions.append((name, int(part[len(name) :] or 1)))
    return tuple(sorted(dimensions))


def _prefixed() -> dict[str, UnitEntry]:
    units = {}
    for kind, (symbols, names, size) in _PREFIXED.items():
        dimensions = _dimensions(_DIMENSIONS[kind.split(" ")[0]])
        for symbol in symbols.split():
            units[symbol] = UnitEntry(dimensions, Fraction(size))
            for prefix, scale in _PREFIXES.items():
                if symbol in _RARE_PREFIXES.get(prefix, (symbol,)):
                    units[prefix + symbol] = UnitEntry(dimensions, Fraction(size) * Fraction(scale))
        for name in names.split():
            units[name] = UnitEntry(dimensions, Fraction(size))
            for prefix, scale in _NAMED_PREFIXES.items():
                units[prefix + name] = UnitEntry(dimensions, Fraction(size) * Fraction(scale))
    return units


def _others() -> dict[str, UnitEntry]:
    units = {}
    tables = {kind: (_dimensions(_DIMENSIONS[kind]), table) for kind, table in _OTHERS.items()}
    tables |= {base: (((base, 1),), table) for base, table in _BASES.items()}
    for dimensions, table in tables.values():
        for spellings, size in table.items():
            for name in spellings.split():
                units[name] = UnitEntry(dimensions, Fraction(size))
    return units


def _currencies() -> dict[str, UnitEntry]:
    money = (("money", 1),)
    return {
        name: UnitEntry(money, Fraction(size), currency=frozenset(codes.split()))
        for spellings, (codes, size) in _CURRENCIES.items()
        for name in spellings.split()
    }


def _angles_and_temperatures() -> dict[str, UnitEntry]:
    """Units whose conversion needs pi or an offset."""
    kelvin = (("K", 1),)
    radian = UnitEntry((("degree", 1),), Fraction(180), num_pi=-1)
    celsius = UnitEntry(kelvin, offset=Fraction("273.15"))
    fahrenheit = UnitEntry(kelvin, Fraction(5, 9), offset=Fraction("459.67"))
    return {
        **dict.fromkeys(("rad", "radian", "радиан", "弧度"), radian),
        **dict.fromkeys(("K", "kelvin", "开尔文"), UnitEntry(kelvin)),
        **dict.fromkeys(("°C", "℃", "celsius", "摄氏度"), celsius),
        **dict.fromkeys(("°F", "℉", "fahrenheit", "华氏度"), fahrenheit),
    }


CURRENCY_BEFORE = _currencies()
UNITS = {**_prefixed(), **_others(), **CURRENCY_BEFORE, **_angles_and_temperatures()}
for _name in _MONEY_ONLY_BEFORE:
    del UNITS[_name]

JOINED_UNITS = {  # units of several words, each in the singular
    "degree celsius": UNITS["°C"], "degree centigrade": UNITS["°C"], "degree fahrenheit": UNITS["°F"], "degree c": UNITS["°C"],
    "degree f": UNITS["°F"], "fluid ounce": UNITS["floz"], "fl oz": UNITS["floz"], "light year": UNITS["lightyear"],
    "nautical mile": UNITS["nauticalmile"], "metric ton": UNITS["tonne"], "us dollar": UNITS["USD"], "u s dollar": UNITS["USD"],
    "us cent": UNITS["cent"], "american dollar": UNITS["USD"], "canadian dollar": UNITS["CAD"], "australian dollar": UNITS["AUD"], "indian rupee": UNITS["INR"],
    "electron volt": UNITS["eV"], "watt hour": UNITS["Wh"], "kilowatt hour": UNITS["kWh"], "swiss franc": UNITS["CHF"],
}  # fmt: skip
JOINED_PERCENT = {
    "per cent": Fraction(1), "percentage point": Fraction(1), "por ciento": Fraction(1), "pour cent": Fraction(1),
    "per mille": Fraction(1, 10), "basis point": Fraction(1, 100),
}  # fmt: skip
