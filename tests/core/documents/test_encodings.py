"""Encodings: the text that the file shows, or none at all and the reason."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.documents.encoding import decode
from merganser.errors import SkipDocument

# ruff: noqa: E501 - prose
PROSE = {
    "ru": "Закрывает соединение с базой данных и записывает сообщение в журнал. Если очередь ещё не "
    "пуста, функция ждёт, пока все задания не будут выполнены, и только потом возвращается.",
    "uk": "Закриває з'єднання з базою даних і записує повідомлення до журналу. Якщо черга ще не "
    "порожня, функція чекає, доки всі завдання будуть виконані, і лише тоді повертається.",
    "zh": "关闭数据库连接并写入日志。如果队列还不是空的，函数会一直等待，直到所有任务都完成以后才返回结果。",
    "tw": "關閉資料庫連線並寫入記錄。如果佇列還不是空的，函式會一直等待，直到所有工作都完成以後才傳回結果。",
    "ja": "データベースの接続を閉じて、ログにメッセージを書き込みます。キューが空でない場合は、すべての処理が終わるまで待ってから戻ります。",
    "ko": "데이터베이스 연결을 닫고 로그에 메시지를 기록합니다. 대기열이 비어 있지 않으면 모든 작업이 끝날 때까지 기다린 다음 돌아옵니다.",
    "pl": "Zamyka połączenie z bazą danych i zapisuje wiadomość w dzienniku. Jeżeli kolejka nie jest "
    "jeszcze pusta, funkcja czeka, aż wszystkie zadania zostaną wykonane, i dopiero później wraca.",
    "de": "Schließt die Verbindung zur Datenbank und schreibt eine Nachricht ins Protokoll. Wenn die "
    "Schlange noch nicht leer ist, wartet die Funktion, bis alle Aufträge für den Nutzer ausgeführt "
    "sind, und kehrt erst danach zurück; übrige Einträge löscht ein späterer Durchlauf, für den künftig übliche Größen gelten.",
    "fr": "Ferme la connexion à la base de données et écrit un message dans le journal. Si la file "
    "n'est pas encore vide, la fonction attend que toutes les tâches aient été exécutées, puis "
    "elle renvoie le résultat à l'appelant dès que possible.",
    "el": "Κλείνει τη σύνδεση με τη βάση δεδομένων και γράφει ένα μήνυμα στο ημερολόγιο. Αν η ουρά "
    "δεν είναι ακόμη άδεια, η συνάρτηση περιμένει μέχρι να εκτελεστούν όλες οι εργασίες.",
    "tr": "Veritabanı bağlantısını kapatır ve günlüğe bir ileti yazar. Kuyruk henüz boş değilse işlev, "
    "bütün görevler yerine getirilinceye kadar bekler ve ancak ondan sonra geri döner.",
    "he": "סוגר את החיבור למסד הנתונים וכותב הודעה ליומן. אם התור עדיין אינו ריק, הפונקציה ממתינה עד "
    "שכל המשימות יבוצעו ורק אחר כך חוזרת.",
    "ar": "يغلق الاتصال بقاعدة البيانات ويكتب رسالة في السجل. إذا لم يكن الطابور فارغا بعد فإن الدالة "
    "تنتظر حتى يتم تنفيذ جميع المهام ثم تعود.",
    "th": "ปิดการเชื่อมต่อกับฐานข้อมูลและเขียนข้อความลงในบันทึก ถ้าคิวยังไม่ว่าง ฟังก์ชันจะรอจนกว่างานทั้งหมดจะเสร็จสิ้น",
}
LEGACY = [
    ("ru", "cp1251"), ("ru", "koi8_r"), ("ru", "iso8859_5"), ("ru", "cp866"), ("uk", "cp1251"),
    ("uk", "koi8_u"), ("zh", "gb18030"), ("zh", "gbk"), ("tw", "big5"), ("ja", "shift_jis"),
    ("ja", "euc_jp"), ("ko", "euc_kr"), ("pl", "cp1250"), ("pl", "iso8859_2"), ("de", "cp1252"),
    ("de", "iso8859_15"), ("de", "mac_roman"), ("fr", "cp1252"), ("fr", "mac_roman"),
    ("el", "cp1253"), ("el", "iso8859_7"), ("tr", "cp1254"), ("tr", "iso8859_9"), ("he", "cp1255"),
    ("ar", "cp1256"), ("th", "tis_620"),
]  # fmt: skip
CODE = "import os\n\n\ndef close(path: str) -> int:\n    # {}\n    return os.close(int(path))\n"


def read(data: bytes) -> str | None:
    """Return the text, or None when the file is skipped for its encoding."""
    try:
        return decode(data).text
    except SkipDocument:
        return None


@pytest.mark.parametrize(("language", "encoding"), LEGACY)
def test_prose_is_read_as_it_is_written(language: str, encoding: str):
    text = PROSE[language] + "\n"

    assert read(text.encode(encoding)) == text


@pytest.mark.parametrize(("language", "encoding"), LEGACY)
def test_a_comment_in_code_is_read_rightly_or_not_at_all(language: str, encoding: str):
    words = PROSE[language]
    cuts = [words[start : start + length] for start in range(0, 60, 7) for length in (8, 20, 50)]

    wrong = [
        cut for cut in cuts if read((code := CODE.format(cut)).encode(encoding)) not in {code, None}
    ]

    assert not wrong


@pytest.mark.parametrize("language", ["ru", "zh", "ja", "ko", "el", "th"])
def test_a_whole_sentence_in_code_is_enough(language: str):
    encoding = next(e for name, e in LEGACY if name == language)
    code = CODE.format(PROSE[language][:80])

    assert read(code.encode(encoding)) == code


@pytest.mark.parametrize(
    "text", ["/* M\xfcller, 1998 */\n", "(c) \xa9 2003 Andr\xe9 Weil\n", "gro\xdf\n"]
)
def test_the_letters_that_all_of_europe_has_at_one_place_need_no_guess(text: str):
    assert read(text.encode("cp1252")) == text


DECLARED = [
    ("cp1251", "# -*- coding: cp1251 -*-\nx = 1  # {}\n"),
    ("cp1251", '<?xml version="1.0" encoding="windows-1251"?>\n<a>{}</a>\n'),
    ("koi8_r", '@charset "koi8-r";\n/* {} */\n'),
    ("cp866", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=cp866\\n"\n"{}"\n'),
]


@pytest.mark.parametrize(("encoding", "frame"), DECLARED)
def test_a_declaration_decides_what_is_too_short_to_tell(encoding: str, frame: str):
    text = frame.format("Да")

    assert read(text.encode(encoding)) == text
    assert read("x = 'Да'\n".encode(encoding)) is None


def test_latin_1_means_what_windows_has_there():
    data = b"# coding: latin-1\n# \x93quoted\x94\n"

    assert decode(data).text == "# coding: latin-1\n# \u201cquoted\u201d\n"


def test_iso_2022_jp_is_no_ascii():
    text = "設定ファイルを読み込む\n"

    assert decode(text.encode("iso2022_jp")).text == text


@pytest.mark.parametrize("language", PROSE)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("with_mark", [False, True])
def test_wide_characters_are_text_with_and_without_a_mark(
    language: str, encoding: str, *, with_mark: bool
):
    text = f"SELECT 1; -- {PROSE[language]}\r\n"
    data = (("\ufeff" if with_mark else "") + text).encode(encoding)

    decoded = decode(data)

    assert (decoded.text, decoded.encoding) == (text, encoding)


@given(st.binary(min_size=40, max_size=400).filter(lambda data: b"\0" in data))
def test_no_binary_is_taken_for_wide_characters(data: bytes):
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return
    with pytest.raises(SkipDocument) as skipped:
        decode(data)

    assert skipped.value.reason == "binary"


@pytest.mark.parametrize("bad", [b"\xff", b"\xe9", b"\xc3"])
def test_utf_8_by_overwhelming_majority_stays_utf_8(bad: bytes):
    data = PROSE["ru"].encode() + b"\n" + bad + b" end\n" + PROSE["de"].encode()

    decoded = decode(data)

    assert decoded.text == PROSE["ru"] + "\n\ufffd end\n" + PROSE["de"]
    assert (decoded.encoding, decoded.bad_bytes) == ("utf-8", 1)
    assert decoded.note == "1 bytes are not UTF-8, shown as \ufffd"


def test_utf_8_that_breaks_off_in_a_character_stays_utf_8():
    assert decode("Größe".encode() + b"\xc3").text == "Größe\ufffd"


def test_two_encodings_in_equal_parts_are_none():
    assert read("größer\n".encode() + "größer\n".encode("cp1252")) is None


@given(st.binary(max_size=200))
def test_the_bytes_come_back(data: bytes):
    try:
        decoded = decode(data)
    except SkipDocument:
        return
    if not decoded.bad_bytes:
        assert decoded.bom + decoded.text.encode(decoded.encoding) == data
